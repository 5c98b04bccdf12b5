// Command lab-traffic is the traffic of the lab: servers for a service's endpoints to be, and
// clients that count what a change of the node's service rules costs them.
//
//	serve  answers on TCP and UDP, and says from which address
//	ask    makes a few connections and prints what answered
//	load   makes new connections on a steady schedule and counts those that fail
//	hold   keeps one connection, and notices when it falls silent or breaks
//
// Standard library only: it is built with the compiler that builds the lab's kube-proxy.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	commands := map[string]func([]string) error{
		"serve": serve, "ask": ask, "load": load, "hold": hold,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: lab-traffic serve|ask|load|hold [--help]")
		os.Exit(2)
	}
	calm()
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "lab-traffic:", err)
		os.Exit(1)
	}
}

// stopped returns a channel that is closed when this process is asked to end.
func stopped() <-chan struct{} {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	end := make(chan struct{})
	go func() {
		<-signals
		close(end)
	}()
	return end
}

// replace writes the file in one step, so that a reader never sees half of it.
// No file, or "-", is stdout.
func replace(path string, text []byte) error {
	if path == "" || path == "-" {
		_, err := os.Stdout.Write(text)
		return err
	}
	fresh := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(fresh, text, 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}
