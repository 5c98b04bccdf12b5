package main

import "time"

// Of the nodes, by name, each waits this much longer than the one before it: so the first one
// writes, and another one where the first one's agent is away.
const statusPatience = 3 * time.Second

// status counts as the DaemonSet controller does.
func (d daemons) status() map[string]int {
	count := map[string]int{
		"desiredNumberScheduled": 0, "currentNumberScheduled": 0, "numberMisscheduled": 0,
		"numberReady": 0, "numberAvailable": 0, "updatedNumberScheduled": 0,
	}
	for _, one := range d.nodes {
		pods := d.pods[one.Metadata.Name]
		if !d.spec.fits(one) {
			if len(pods) > 0 {
				count["numberMisscheduled"]++
			}
			continue
		}
		count["desiredNumberScheduled"]++
		if len(pods) == 0 {
			continue
		}
		count["currentNumberScheduled"]++
		if pods[0].readySince() != nil {
			count["numberReady"]++
		}
		if d.available(pods[0]) {
			count["numberAvailable"]++
		}
		if d.current(pods[0]) {
			count["updatedNumberScheduled"]++
		}
	}
	count["numberUnavailable"] = count["desiredNumberScheduled"] - count["numberAvailable"]
	return count
}

// reportSet writes the DaemonSet's status where it is wrong and this node's turn to do so.
func (a *agent) reportSet(all daemons) {
	about := all.set.Metadata
	wanted := all.status()
	wanted["observedGeneration"] = about.Generation
	right := true
	for name, number := range wanted {
		// A number that is 0 may be left out.
		found, _ := all.set.Status[name].(float64)
		right = right && int(found) == number
	}
	since, wrong := a.wrongSince[about.UID]
	switch {
	case right:
		delete(a.wrongSince, about.UID)
		return
	case !wrong:
		since = time.Now()
		a.wrongSince[about.UID] = since
	}
	if time.Since(since) < a.place(all.nodes)*statusPatience {
		return
	}
	path := daemonSetsPath + "/" + about.Name + "/status"
	if err := a.api.patch(path, mergePatch, object{"status": wanted}); err != nil {
		say("status of %s: %v", about.Name, err)
	}
}

// place returns how many nodes come before this one.
func (a *agent) place(nodes []node) time.Duration {
	for place, one := range nodes {
		if one.Metadata.Name == a.node {
			return time.Duration(place)
		}
	}
	return time.Duration(len(nodes))
}
