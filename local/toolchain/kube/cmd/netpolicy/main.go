// Command netpolicy enforces NetworkPolicy on the one node of the local cluster, for tests of what a policy lets through.
//
// It watches pods, namespaces and policies, and keeps one nftables table that says the same. It is no replacement for the
// enforcer of a real cluster: one node, IPv4, and what is connected stays connected when a policy changes.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// Changes come in bursts; the rules are written once for all that come within this time.
	gatherTime = 50 * time.Millisecond
	retryTime  = time.Second
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "leads to the API server")
	table := flag.String("table", "", "name of the nftables table that is ours alone")
	podCIDR := flag.String("pod-cidr", "", "the addresses of all pods")
	flag.Parse()
	if *table == "" || *podCIDR == "" {
		log.Fatal("-table and -pod-cidr are needed")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *table, *podCIDR); err != nil {
		log.Fatal(err)
	}
}

// run keeps the table as the API server says until ctx ends. The table stays: whoever restarts the command leaves no gap.
func run(ctx context.Context, kubeconfig, table, podCIDR string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(withoutManagedFields))
	pods, namespaces := factory.Core().V1().Pods(), factory.Core().V1().Namespaces()
	policies := factory.Networking().V1().NetworkPolicies()
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default: // it will be looked at anyway
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { tell() },
		UpdateFunc: func(any, any) { tell() },
		DeleteFunc: func(any) { tell() },
	}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	tell()
	loaded := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		time.Sleep(gatherTime)
		// An informer's lister reads memory: it has no errors to give.
		now := cluster{namespaces: map[string]labels.Set{}}
		now.pods, _ = pods.Lister().List(labels.Everything())
		now.policies, _ = policies.Lister().List(labels.Everything())
		every, _ := namespaces.Lister().List(labels.Everything())
		for _, namespace := range every {
			now.namespaces[namespace.Name] = namespace.Labels
		}
		rules := now.ruleset(table, podCIDR)
		if rules == loaded {
			continue
		}
		if err := load(rules); err != nil {
			log.Print(err)
			time.AfterFunc(retryTime, tell)
			continue
		}
		log.Printf("%d policies, %d pods, %d lines of rules", len(now.policies), len(now.pods), strings.Count(rules, "\n"))
		loaded = rules
	}
}

// load replaces the table in one transaction: no packet meets half of it.
func load(rules string) error {
	command := exec.Command("nft", "-f", "-")
	command.Stdin = strings.NewReader(rules)
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s of\n%s", err, said, rules)
	}
	return nil
}

func withoutManagedFields(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}
