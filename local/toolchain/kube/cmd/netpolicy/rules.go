package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// cluster is what policies speak of, as the API server has it.
type cluster struct {
	pods       []*core.Pod
	namespaces map[string]labels.Set
	policies   []*networking.NetworkPolicy
}

// side is one direction of traffic, seen from the pod that a policy selects.
type side struct {
	name       string
	policyType networking.PolicyType
	own, peer  string // which address of a packet is the pod's, and which the other party's
}

var (
	ingress = side{"ingress", networking.PolicyTypeIngress, "daddr", "saddr"}
	egress  = side{"egress", networking.PolicyTypeEgress, "saddr", "daddr"}
)

// Packets that leave a pod pass `forward` (to pods and beyond) or `input` (to the node); both hooks lie behind kube-proxy's
// address translation, so that rules see the pod and the port behind a Service. What the node sends passes neither: the
// kubelet's probes always arrive. As soon as there is a policy, an address that no pod is known to have yet reaches nobody:
// a new pod is isolated from its first packet on, and waits for a moment.
const frame = `add table ip %[1]s
delete table ip %[1]s
table ip %[1]s {
%[2]s	chain ingress {
%[3]s	}
	chain egress {
%[4]s	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
%[5]s%[6]s		jump egress
		jump ingress
	}
	chain input {
		type filter hook input priority filter; policy accept;
		ct state established,related accept
		fib saddr type local accept
%[5]s		jump egress
	}
}
`

// ruleset is the table as a file for nft, which replaces what it was.
func (c *cluster) ruleset(table, podCIDR string) string {
	pods := slices.DeleteFunc(slices.Clone(c.pods), func(pod *core.Pod) bool { return !reachable(pod) })
	slices.SortFunc(pods, func(a, b *core.Pod) int { return strings.Compare(a.Status.PodIP, b.Status.PodIP) })
	policies := slices.Clone(c.policies)
	slices.SortFunc(policies, func(a, b *networking.NetworkPolicy) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	sorted := cluster{pods, c.namespaces, policies}
	var chains strings.Builder
	jumps := map[string]string{}
	for _, pod := range pods {
		for _, way := range []side{ingress, egress} {
			rules, isolated := sorted.rules(pod, way)
			if !isolated {
				continue
			}
			name := way.name + "-" + pod.Status.PodIP
			fmt.Fprintf(&chains, "\tchain %s { # %s/%s\n", name, pod.Namespace, pod.Name)
			for _, rule := range rules {
				fmt.Fprintf(&chains, "\t\t%s return\n", rule)
			}
			chains.WriteString("\t\tdrop\n\t}\n")
			jumps[way.name] += fmt.Sprintf("\t\tip %s %s jump %s\n", way.own, pod.Status.PodIP, name)
		}
	}
	unknown := func(address string) string {
		if len(policies) == 0 {
			return ""
		}
		rule := fmt.Sprintf("ip %s %s ", address, podCIDR)
		if len(pods) > 0 {
			rule += fmt.Sprintf("ip %s != %s ", address, addresses(pods))
		}
		return "\t\t" + rule + "drop\n"
	}
	return fmt.Sprintf(
		frame, table, chains.String(), jumps["ingress"], jumps["egress"], unknown("saddr"), unknown("daddr"),
	)
}

// rules says which traffic of a pod is let through, and whether any policy stops the rest.
func (c *cluster) rules(pod *core.Pod, way side) (rules []string, isolated bool) {
	for _, policy := range c.policies {
		if policy.Namespace != pod.Namespace || !matches(&policy.Spec.PodSelector, pod.Labels) ||
			!slices.Contains(policy.Spec.PolicyTypes, way.policyType) {
			continue
		}
		isolated = true
		if way.policyType == networking.PolicyTypeIngress {
			for _, rule := range policy.Spec.Ingress {
				rules = append(rules, joined(c.peers(way, pod.Namespace, rule.From), c.ports(way, pod, rule.Ports))...)
			}
		} else {
			for _, rule := range policy.Spec.Egress {
				rules = append(rules, joined(c.peers(way, pod.Namespace, rule.To), c.ports(way, pod, rule.Ports))...)
			}
		}
	}
	if isolated { // a pod cannot be kept from itself, not even through a Service
		rules = append(rules, fmt.Sprintf("ip %s %s", way.peer, pod.Status.PodIP))
	}
	return rules, isolated
}

// joined is every peer with every port.
func joined(peers, ports []string) (rules []string) {
	for _, peer := range peers {
		for _, port := range ports {
			rules = append(rules, strings.TrimSpace(peer+" "+port))
		}
	}
	return rules
}

// peers are expressions of which one has to hold for the other party. No peers at all mean everybody.
func (c *cluster) peers(way side, namespace string, peers []networking.NetworkPolicyPeer) (expressions []string) {
	if len(peers) == 0 {
		return []string{""}
	}
	for _, peer := range peers {
		if peer.IPBlock != nil {
			expressions = append(expressions, block(way, peer.IPBlock)...)
			continue
		}
		selected := slices.DeleteFunc(slices.Clone(c.pods), func(pod *core.Pod) bool {
			return !c.selects(peer, namespace, pod)
		})
		if len(selected) > 0 {
			expressions = append(expressions, fmt.Sprintf("ip %s %s", way.peer, addresses(selected)))
		}
	}
	return expressions
}

func (c *cluster) selects(peer networking.NetworkPolicyPeer, namespace string, pod *core.Pod) bool {
	if peer.NamespaceSelector == nil && pod.Namespace != namespace {
		return false
	}
	if peer.NamespaceSelector != nil && !matches(peer.NamespaceSelector, c.namespaces[pod.Namespace]) {
		return false
	}
	return peer.PodSelector == nil || matches(peer.PodSelector, pod.Labels)
}

// block is one expression, or none where the block is of IPv6, which this cluster does not speak.
func block(way side, block *networking.IPBlock) []string {
	prefix, err := netip.ParsePrefix(block.CIDR)
	if err != nil || !prefix.Addr().Is4() {
		return nil
	}
	expression := fmt.Sprintf("ip %s %s", way.peer, prefix.Masked())
	for _, except := range block.Except {
		if prefix, err := netip.ParsePrefix(except); err == nil && prefix.Addr().Is4() {
			expression += fmt.Sprintf(" ip %s != %s", way.peer, prefix.Masked())
		}
	}
	return []string{expression}
}

// ports are expressions of which one has to hold for the port that is called. No ports at all mean every port.
func (c *cluster) ports(way side, pod *core.Pod, ports []networking.NetworkPolicyPort) (expressions []string) {
	if len(ports) == 0 {
		return []string{""}
	}
	for _, port := range ports {
		protocol := core.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		word := strings.ToLower(string(protocol))
		switch {
		case port.Port == nil:
			expressions = append(expressions, "meta l4proto "+word)
		case port.Port.Type == intstr.Int && port.EndPort != nil:
			expressions = append(expressions, fmt.Sprintf("%s dport %d-%d", word, port.Port.IntVal, *port.EndPort))
		case port.Port.Type == intstr.Int:
			expressions = append(expressions, fmt.Sprintf("%s dport %d", word, port.Port.IntVal))
		case way.policyType == networking.PolicyTypeIngress:
			for _, number := range named(pod, port.Port.StrVal, protocol) {
				expressions = append(expressions, fmt.Sprintf("%s dport %d", word, number))
			}
		default: // the name is of a port of the pod that is called
			for _, called := range c.pods {
				for _, number := range named(called, port.Port.StrVal, protocol) {
					expressions = append(expressions, fmt.Sprintf("ip daddr %s %s dport %d", called.Status.PodIP, word, number))
				}
			}
		}
	}
	return expressions
}

// named are the numbers of the ports that containers of a pod call by a name.
func named(pod *core.Pod, name string, protocol core.Protocol) (numbers []int32) {
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, port := range container.Ports {
			if port.Name == name && port.Protocol == protocol {
				numbers = append(numbers, port.ContainerPort)
			}
		}
	}
	return numbers
}

// reachable pods have an address of their own; that of a pod which has ended may be somebody else's by now.
func reachable(pod *core.Pod) bool {
	return pod.Status.PodIP != "" && !pod.Spec.HostNetwork && pod.Status.Phase != core.PodSucceeded &&
		pod.Status.Phase != core.PodFailed
}

func addresses(pods []*core.Pod) string {
	var all []string
	for _, pod := range pods {
		all = append(all, pod.Status.PodIP)
	}
	return "{ " + strings.Join(all, ", ") + " }"
}

func matches(selector *meta.LabelSelector, set labels.Set) bool {
	parsed, err := meta.LabelSelectorAsSelector(selector)
	return err == nil && parsed.Matches(set)
}
