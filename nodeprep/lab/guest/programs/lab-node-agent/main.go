// Command lab-node-agent does for kube-proxy's pods, on one node of the lab, what two parts of
// Kubernetes do that the lab has not: the DaemonSet controller and the kubelet.
//
//	run    the agent itself: decides which pods this node should have (daemonset.go), and
//	       starts, watches, reports and ends those it has (pods.go, pod.go)
//	keep   one container's keeper: writes its log and how it ended (keep.go). It outlives the
//	       agent, as containerd's shim outlives the kubelet
//	enter  a container's beginning: its cgroup, its mounts, and then its program (enter.go)
//
// All it knows of the cluster comes through the API server with a node's rights (api.go, watch.go).
// It is no kubelet: a pod has one container, the node's own network, and volumes of the kinds that
// kube-proxy has. An image is a program of the seed disk, chosen by the image's tag (image.go).
//
// Standard library only: it is built with the compiler that builds the lab's kube-proxy.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	switch os.Args[1] {
	case "run":
		run(os.Args[2:])
	case "keep":
		keep(os.Args[2])
	case "enter":
		enter(os.Args[2])
	default:
		usage()
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: lab-node-agent run [--help]")
	os.Exit(2)
}

func run(arguments []string) {
	flags := flag.NewFlagSet("run", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "/etc/kubernetes/kubelet.conf", "`FILE`, in JSON")
	flags.Parse(arguments)
	node, err := os.Hostname()
	if err != nil {
		fatal("%v", err)
	}
	api, err := readKubeconfig(*kubeconfig)
	if err != nil {
		fatal("%s: %v", *kubeconfig, err)
	}
	newAgent(node, api).run()
}

func say(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
}

func fatal(format string, values ...any) {
	say(format, values...)
	os.Exit(1)
}
