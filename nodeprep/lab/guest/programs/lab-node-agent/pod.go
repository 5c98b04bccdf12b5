package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// How soon the end of a process is seen.
	lookAfter    = time.Second
	usualGrace   = 30 * time.Second
	firstBackOff = 10 * time.Second
	lastBackOff  = 5 * time.Minute
	// A container that ran for so long starts afresh with its back-off.
	forgiven = 10 * time.Minute
	// A token is good for an hour.
	tokenAge = 40 * time.Minute
)

// worker sees to one pod from its beginning to its end.
type worker struct {
	pods *localPods
	wake chan struct{}
	mu   sync.Mutex
	pod  pod
	gone bool
	// What the API server was told last, and the pod's version that is all told of.
	reported string
	settled  string
	backOff  time.Duration
	notUntil time.Time
}

// tell says what the pod is now, or that the cluster has it no more.
func (w *worker) tell(one pod, gone bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one.Metadata.ResourceVersion == w.pod.Metadata.ResourceVersion && gone == w.gone {
		return
	}
	w.pod, w.gone = one, gone
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) latest() pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

func (w *worker) isGone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone
}

// work looks at how things are, does the next step, and waits for a word or a moment.
func (w *worker) work() {
	for {
		if one := w.latest(); one.Metadata.DeletionTimestamp != nil || w.isGone() {
			if w.end(one) {
				return
			}
		} else {
			w.step(one)
		}
		select {
		case <-w.wake:
		case <-time.After(lookAfter):
		}
	}
}

// step brings a pod that should run to running, and says how it is.
func (w *worker) step(one pod) {
	container := containerOf(one.Metadata.UID)
	running := container.running()
	if running && w.settled == one.Metadata.ResourceVersion {
		w.freshenToken(one)
		return
	}
	w.settled = ""
	state := container.read()
	switch {
	case running:
		if w.report(one, state, waiting{}) && state.Started != nil && state.Finished == nil {
			w.settled = one.Metadata.ResourceVersion
		}
	case time.Now().Before(w.notUntil):
		w.report(one, state, waiting{"CrashLoopBackOff", "back-off " + w.backOff.String()})
	case w.pods.predecessorRuns(one):
		w.report(one, state, waiting{"ContainerCreating", "its predecessor still runs"})
	case state.justEnded() && w.holdBack(state):
		w.report(one, state, waiting{"CrashLoopBackOff", "back-off " + w.backOff.String()})
	default:
		if problem := w.start(one, container, state); problem.reason != "" {
			w.report(one, state, problem)
		}
	}
}

// holdBack decides how long a container that ended waits: not at all the first time, then twice as
// long each time. It says whether there is anything to wait for.
func (w *worker) holdBack(state containerState) bool {
	if state.Finished.Sub(*state.Started) > forgiven {
		w.backOff = 0
		return false
	}
	switch {
	case state.Restart == 0:
		return false
	case w.backOff == 0:
		w.backOff = firstBackOff
	case w.notUntil.Before(*state.Finished):
		w.backOff *= 2
	}
	if w.backOff > lastBackOff {
		w.backOff = lastBackOff
	}
	until := state.Finished.Add(w.backOff)
	if time.Now().Before(until) {
		w.notUntil = until
		return true
	}
	return false
}

// start puts everything in place that the container needs, and starts it.
func (w *worker) start(one pod, container containerFiles, before containerState) waiting {
	if len(one.Spec.Containers) == 0 {
		return waiting{"InvalidPod", "it has no container"}
	}
	image, err := findImage(one.Spec.Containers[0].Image)
	if err != nil {
		return waiting{"ErrImagePull", err.Error()}
	}
	if err := w.remember(one, container); err != nil {
		return waiting{"CreateContainerError", err.Error()}
	}
	// Written before each start: the kubelet keeps volumes up to date, and so a container that starts
	// again has the ConfigMap as it is then. Without an API server it has it as it was.
	err = writeVolumes(w.pods.api, one, container.folder)
	if err != nil && (before.ID == "" || statusOf(err) != 0) {
		return waiting{"ContainerCreating", err.Error()}
	}
	mounts, err := mountsOf(one, container.folder)
	if err != nil {
		return waiting{"CreateContainerConfigError", err.Error()}
	}
	next := nextContainer(one, image, mounts, container, before)
	if err := container.start(next); err != nil {
		return waiting{"RunContainerError", err.Error()}
	}
	say("started pod %s, restart %d", one.Metadata.Name, next.Restart)
	// Its state is on the disk in a moment.
	w.nudge()
	return waiting{}
}

func (w *worker) nudge() {
	time.AfterFunc(lookAfter/4, func() {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	})
}

// remember keeps the pod on the disk, for the agent that comes after this one.
func (w *worker) remember(one pod, container containerFiles) error {
	text, err := json.Marshal(one)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(container.folder, 0o750); err != nil {
		return err
	}
	return replace(filepath.Join(container.folder, "pod.json"), text)
}

func (w *worker) freshenToken(one pod) {
	folder := containerOf(one.Metadata.UID).folder
	if tokenIsOlder(one, folder, tokenAge) {
		if err := writeVolumes(w.pods.api, one, folder); err != nil {
			say("pod %s: %v", one.Metadata.Name, err)
		}
	}
}

// end stops the pod, and says whether it is all over.
func (w *worker) end(one pod) bool {
	container := containerOf(one.Metadata.UID)
	if container.running() {
		say("ending pod %s", one.Metadata.Name)
		container.stop(grace(one))
		w.report(one, container.read(), waiting{})
	}
	if !w.isGone() {
		now := 0
		if err := w.pods.api.remove(one.path(), one.Metadata.UID, &now); err != nil {
			say("removing pod %s: %v", one.Metadata.Name, err)
			return false
		}
	}
	container.clear(one)
	say("pod %s is gone", one.Metadata.Name)
	return true
}

// grace is how long a pod may take to end by itself.
func grace(one pod) time.Duration {
	for _, seconds := range []*int{
		one.Metadata.DeletionGracePeriodSeconds, one.Spec.TerminationGracePeriodSeconds,
	} {
		if seconds != nil {
			return time.Duration(*seconds) * time.Second
		}
	}
	return usualGrace
}

// stop asks the process to end, and ends it when its time is over.
func (c containerFiles) stop(grace time.Duration) {
	signal := syscall.SIGTERM
	limit := time.Now().Add(grace)
	for sent := 0; c.running(); time.Sleep(lookAfter / 10) {
		if time.Now().After(limit) {
			signal, sent = syscall.SIGKILL, 0
		}
		// Until its keeper has written down which process it is, there is nobody to ask.
		if pid := c.read().Pid; pid > 0 && pid != sent {
			syscall.Kill(pid, signal)
			sent = pid
		}
	}
}
