package main

import (
	"encoding/json"
	"net/http"
	"time"
)

// waiting is why a container does not run yet.
type waiting struct{ reason, message string }

// report tells the API server how the pod is, where that is news, and says whether it knows by now.
func (w *worker) report(one pod, state containerState, why waiting) bool {
	if w.isGone() || len(one.Spec.Containers) == 0 {
		return false
	}
	status := podStatus(one, state, why, w.pods.hostIP())
	text, _ := json.Marshal(status)
	if string(text) == w.reported {
		return true
	}
	part := object{"metadata": object{"uid": one.Metadata.UID}, "status": status}
	err := w.pods.api.patch(one.path()+"/status", mergePatch, part)
	if err != nil && statusOf(err) != http.StatusNotFound {
		say("status of %s: %v", one.Metadata.Name, err)
		return false
	}
	w.reported = string(text)
	return true
}

func podStatus(one pod, state containerState, why waiting, address string) object {
	running := state.Started != nil && state.Finished == nil && why.reason == ""
	phase, changed := "Running", one.Metadata.CreationTimestamp
	if state.Started == nil {
		phase = "Pending"
	} else {
		changed = *state.Started
	}
	if state.Finished != nil {
		changed = *state.Finished
	}
	status := object{
		"phase": phase,
		"conditions": []object{
			condition("Initialized", true, one.Metadata.CreationTimestamp),
			condition("Ready", running, changed),
			condition("ContainersReady", running, changed),
			condition("PodScheduled", true, one.Metadata.CreationTimestamp),
		},
		"startTime":         one.Metadata.CreationTimestamp,
		"containerStatuses": []object{containerStatus(one, state, why, running)},
	}
	if address != "" {
		status["hostIP"], status["podIP"] = address, address
		status["podIPs"] = []object{{"ip": address}}
	}
	return status
}

func condition(kind string, holds bool, since time.Time) object {
	status := map[bool]string{true: "True", false: "False"}[holds]
	return object{"type": kind, "status": status, "lastTransitionTime": since.UTC().Format(time.RFC3339)}
}

func containerStatus(one pod, state containerState, why waiting, running bool) object {
	container := one.Spec.Containers[0]
	var now, before object
	switch {
	case why.reason != "":
		now = object{"waiting": object{"reason": why.reason, "message": why.message}}
		before = state.terminated()
	case running:
		now = object{"running": object{"startedAt": stamp(state.Started)}}
		before = state.Last
	case state.Finished != nil:
		now = state.terminated()
	default:
		now = object{"waiting": object{"reason": "ContainerCreating"}}
	}
	id := ""
	if state.ID != "" {
		id = "containerd://" + state.ID
	}
	return object{
		"name":         container.Name,
		"image":        container.Image,
		"imageID":      container.Image,
		"containerID":  id,
		"ready":        running,
		"started":      running,
		"restartCount": state.Restart,
		"state":        now,
		"lastState":    before,
	}
}

// terminated is a container's state after its end, or nothing where it has not ended.
func (s containerState) terminated() object {
	if s.Finished == nil {
		return nil
	}
	reason := "Error"
	if s.ExitCode == 0 {
		reason = "Completed"
	}
	return object{"terminated": object{
		"exitCode": s.ExitCode, "reason": reason, "containerID": "containerd://" + s.ID,
		"startedAt": stamp(s.Started), "finishedAt": stamp(s.Finished),
	}}
}

func stamp(when *time.Time) string { return when.UTC().Format(time.RFC3339) }
