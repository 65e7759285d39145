"""What can be said of a deployment before it is made, from plain data: no Pulumi, no cluster, no weights."""
