package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
)

// podsFolder is where the kubelet has it, with a folder for each pod, named by its UID.
const podsFolder = "/var/lib/kubelet/pods"

// localPods is the kubelet's part: this node's pods, each with a worker that sees to it alone.
type localPods struct {
	node    string
	api     *api
	mu      sync.Mutex
	workers map[string]*worker
	address string
}

func newLocalPods(node string, api *api) *localPods {
	return &localPods{node: node, api: api, workers: map[string]*worker{}}
}

// adopt takes over the pods that an earlier agent left: they are all on the disk, and those that
// run go on.
func (l *localPods) adopt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	files, _ := filepath.Glob(podsFolder + "/*/pod.json")
	for _, file := range files {
		var one pod
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &one)
		}
		if err != nil {
			say("%s: %v", file, err)
			continue
		}
		say("found pod %s", one.Metadata.Name)
		l.begin(one)
	}
}

// reconcile tells each worker what has become of its pod, and gives new pods a worker.
func (l *localPods) reconcile(pods map[string]pod, address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if address != "" {
		l.address = address
	}
	for uid, one := range pods {
		if one.Spec.NodeName != l.node {
			continue
		}
		if worker := l.workers[uid]; worker != nil {
			worker.tell(one, false)
		} else {
			l.begin(one)
		}
	}
	for uid, worker := range l.workers {
		if _, there := pods[uid]; !there {
			worker.tell(worker.latest(), true)
		}
	}
}

// begin starts a worker; whoever calls holds the lock.
func (l *localPods) begin(one pod) {
	worker := &worker{pods: l, pod: one, wake: make(chan struct{}, 1)}
	l.workers[one.Metadata.UID] = worker
	go func() {
		worker.work()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.workers, one.Metadata.UID)
	}()
}

// hostIP is the node's own address, as far as it is known.
func (l *localPods) hostIP() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.address
}

// predecessorRuns says whether another pod of the same DaemonSet still has a process here. Pods of
// different DaemonSets are none of each other's business, as with the kubelet.
func (l *localPods) predecessorRuns(of pod) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for uid, worker := range l.workers {
		same := of.controller() != "" && worker.latest().controller() == of.controller()
		if uid != of.Metadata.UID && same && containerOf(uid).running() {
			return true
		}
	}
	return false
}
