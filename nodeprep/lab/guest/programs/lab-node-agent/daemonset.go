package main

import (
	"encoding/json"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	hashLabel       = "controller-revision-hash"
	generationLabel = "pod-template-generation"
	// Kubernetes' DaemonSet controller counts template changes in this annotation.
	generationAnnotation = "deprecated.daemonset.template.generation"
)

// daemons is a DaemonSet beside the nodes and pods that it is about.
type daemons struct {
	set   daemonSet
	spec  podSpec
	hash  string
	nodes []node
	// By the node's name, the oldest first. Those that are being deleted count: no other takes
	// their place before they are gone.
	pods map[string][]pod
}

// reconcileSets gives this node the pods it should have, and takes away those it should not.
func (a *agent) reconcileSets(sets []daemonSet, nodes []node, pods map[string]pod) {
	there := map[string]bool{}
	for _, set := range sets {
		there[set.Metadata.UID] = true
		all, err := newDaemons(set, nodes, pods)
		if err != nil {
			say("DaemonSet %s: %v", set.Metadata.Name, err)
			continue
		}
		a.ensureRevision(all)
		a.reconcileOwn(all)
		a.reportSet(all)
	}
	for _, one := range pods {
		if one.Spec.NodeName == a.node && one.controller() != "" && !there[one.controller()] {
			a.delete(one)
		}
	}
}

func newDaemons(set daemonSet, nodes []node, pods map[string]pod) (daemons, error) {
	var template struct{ Spec podSpec }
	if err := json.Unmarshal(set.Spec.Template, &template); err != nil {
		return daemons{}, err
	}
	hash, err := templateHash(set.Spec.Template)
	all := daemons{set: set, spec: template.Spec, hash: hash, nodes: nodes, pods: map[string][]pod{}}
	for _, one := range pods {
		if one.controller() == set.Metadata.UID {
			name := one.Spec.NodeName
			all.pods[name] = append(all.pods[name], one)
		}
	}
	for _, own := range all.pods {
		sort.Slice(own, func(a, b int) bool {
			return own[a].Metadata.CreationTimestamp.Before(own[b].Metadata.CreationTimestamp)
		})
	}
	return all, err
}

func (a *agent) reconcileOwn(all daemons) {
	if all.set.Metadata.DeletionTimestamp != nil {
		return
	}
	own := all.pods[a.node]
	switch {
	case !all.wantedOn(a.node):
		for _, one := range own {
			a.delete(one)
		}
	case len(own) == 0:
		a.create(all)
	default:
		for _, one := range own[1:] {
			a.delete(one)
		}
		if all.mayReplace(a.node) {
			a.delete(own[0])
		}
	}
}

// wantedOn says whether a node of this name should have a pod, by the template as it is now.
func (d daemons) wantedOn(name string) bool {
	for _, one := range d.nodes {
		if one.Metadata.Name == name {
			return d.spec.fits(one)
		}
	}
	return false
}

// available says whether a pod counts as serving.
func (d daemons) available(one pod) bool {
	since := one.readySince()
	patience := time.Duration(d.set.Spec.MinReadySeconds) * time.Second
	return since != nil && time.Since(*since) >= patience
}

func (d daemons) current(one pod) bool { return one.Metadata.Labels[hashLabel] == d.hash }

// mayReplace says whether it is this node's turn to have its pod of an older template replaced.
//
// A pod that does not serve is replaced at once. Of the others as many may be away as
// maxUnavailable says, and the nodes take turns by name.
func (d daemons) mayReplace(name string) bool {
	own := d.pods[name][0]
	if d.set.Spec.UpdateStrategy.Type != "RollingUpdate" || d.current(own) {
		return false
	}
	if !d.available(own) {
		return true
	}
	away, first := 0, ""
	for _, one := range d.nodes {
		if !d.spec.fits(one) {
			continue
		}
		theirs := d.pods[one.Metadata.Name]
		switch {
		case len(theirs) == 0 || !d.available(theirs[0]) || theirs[0].Metadata.DeletionTimestamp != nil:
			away++
		case first == "" && !d.current(theirs[0]):
			first = one.Metadata.Name
		}
	}
	return first == name && away < d.maxUnavailable()
}

// maxUnavailable returns a number of pods; a share of them is rounded up.
func (d daemons) maxUnavailable() int {
	switch value := d.set.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.(type) {
	case float64:
		return int(value)
	case string:
		share, _ := strconv.Atoi(strings.TrimSuffix(value, "%"))
		return int(math.Ceil(float64(d.status()["desiredNumberScheduled"]*share) / 100))
	}
	return 1
}

// create makes this node's pod out of the template.
func (a *agent) create(all daemons) {
	var made object
	if err := json.Unmarshal(all.set.Spec.Template, &made); err != nil {
		say("DaemonSet %s: %v", all.set.Metadata.Name, err)
		return
	}
	about, _ := made["metadata"].(map[string]any)
	labels, _ := about["labels"].(map[string]any)
	withHash := object{hashLabel: all.hash}
	if generation := all.set.Metadata.Annotations[generationAnnotation]; generation != "" {
		withHash[generationLabel] = generation
	}
	for name, value := range labels {
		withHash[name] = value
	}
	made["apiVersion"], made["kind"] = "v1", "Pod"
	made["metadata"] = object{
		"generateName":    all.set.Metadata.Name + "-",
		"namespace":       all.set.Metadata.Namespace,
		"labels":          withHash,
		"annotations":     about["annotations"],
		"ownerReferences": []object{all.reference()},
	}
	made["spec"].(map[string]any)["nodeName"] = a.node
	var created pod
	path := "/api/v1/namespaces/" + all.set.Metadata.Namespace + "/pods"
	if err := a.api.create(path, made, &created); err != nil {
		say("creating a pod of %s: %v", all.set.Metadata.Name, err)
		return
	}
	say("created pod %s", created.Metadata.Name)
	a.pods.put(created)
}

// reference is what makes something the DaemonSet's own.
func (d daemons) reference() object {
	return object{
		"apiVersion": "apps/v1", "kind": "DaemonSet",
		"name": d.set.Metadata.Name, "uid": d.set.Metadata.UID,
		"controller": true, "blockOwnerDeletion": true,
	}
}

// delete asks for a pod's end, once.
func (a *agent) delete(one pod) {
	if one.Metadata.DeletionTimestamp != nil {
		return
	}
	say("deleting pod %s", one.Metadata.Name)
	if err := a.api.remove(one.path(), one.Metadata.UID, nil); err != nil {
		say("deleting pod %s: %v", one.Metadata.Name, err)
	}
}
