package main

import (
	"sort"
	"time"
)

const (
	podsPath       = "/api/v1/pods"
	nodesPath      = "/api/v1/nodes"
	daemonSetsPath = "/apis/apps/v1/namespaces/kube-system/daemonsets"
	// How often all is looked over without anything having been told.
	lookOver = 5 * time.Second
)

// agent is the whole: what it knows of the cluster, and the node's pods.
type agent struct {
	node      string
	api       *api
	nodes     *collection[node]
	sets      *collection[daemonSet]
	pods      *collection[pod]
	local     *localPods
	revisions map[string]bool
	// Since when a DaemonSet's status has been wrong, by its UID.
	wrongSince map[string]time.Time
	wake       chan struct{}
}

func newAgent(name string, api *api) *agent {
	return &agent{
		node:       name,
		api:        api,
		nodes:      collect[node](nodesPath),
		sets:       collect[daemonSet](daemonSetsPath),
		pods:       collect[pod](podsPath),
		local:      newLocalPods(name, api),
		revisions:  map[string]bool{},
		wrongSince: map[string]time.Time{},
		wake:       make(chan struct{}, 1),
	}
}

func (a *agent) run() {
	a.local.adopt()
	go registerNode(a.api, a.node)
	go a.nodes.follow(a.api, a.changed)
	go a.sets.follow(a.api, a.changed)
	go a.pods.follow(a.api, a.changed)
	for {
		select {
		case <-a.wake:
		case <-time.After(lookOver):
		}
		a.reconcile()
	}
}

// changed has everything looked over; changes that come meanwhile are one.
func (a *agent) changed() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// reconcile does the DaemonSet controller's part, and hands the kubelet's its pods.
func (a *agent) reconcile() {
	pods, podsComplete := a.pods.all()
	nodes, nodesComplete := a.nodes.all()
	sets, setsComplete := a.sets.all()
	if !podsComplete {
		return
	}
	if nodesComplete && setsComplete {
		a.reconcileSets(sortedSets(sets), sortedNodes(nodes), pods)
		pods, _ = a.pods.all()
	}
	a.local.reconcile(pods, a.address(nodes))
}

// address is the node's own; all pods have it, since they are in the node's network.
func (a *agent) address(nodes map[string]node) string {
	for _, one := range nodes {
		if one.Metadata.Name == a.node {
			return one.internalIP()
		}
	}
	return ""
}

func sortedNodes(nodes map[string]node) []node {
	var sorted []node
	for _, one := range nodes {
		sorted = append(sorted, one)
	}
	sort.Slice(sorted, func(a, b int) bool {
		return sorted[a].Metadata.Name < sorted[b].Metadata.Name
	})
	return sorted
}

func sortedSets(sets map[string]daemonSet) []daemonSet {
	var sorted []daemonSet
	for _, one := range sets {
		sorted = append(sorted, one)
	}
	sort.Slice(sorted, func(a, b int) bool {
		return sorted[a].Metadata.Name < sorted[b].Metadata.Name
	})
	return sorted
}
