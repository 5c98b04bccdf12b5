package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// The lock that the agent hands over; it is let go of when this process ends.
const lockDescriptor = 3

// keep runs one container: its log, and how it is, are written down to its end.
func keep(planFile string) {
	// The child is to end with this process, and the kernel goes by the thread that started it.
	runtime.LockOSThread()
	syscall.CloseOnExec(lockDescriptor)
	plan, err := readPlan(planFile)
	if err != nil {
		fatal("%s: %v", planFile, err)
	}
	began := time.Now()
	state := containerState{
		ID: plan.ID, Restart: plan.Restart, Boot: bootID(), Started: &began, Last: plan.Last,
	}
	child, copied, err := begin(plan, planFile)
	if err != nil {
		say("%s: %v", plan.ID, err)
		finish(plan, state, 128)
		return
	}
	state.Pid = child.Process.Pid
	write(plan, state)
	copied.Wait()
	child.Wait()
	finish(plan, state, exitCode(child.ProcessState))
}

func readPlan(file string) (containerPlan, error) {
	var plan containerPlan
	text, err := os.ReadFile(file)
	if err != nil {
		return plan, err
	}
	return plan, json.Unmarshal(text, &plan)
}

func write(plan containerPlan, state containerState) {
	text, _ := json.Marshal(state)
	if err := replace(plan.State, text); err != nil {
		say("%s: %v", plan.State, err)
	}
}

func finish(plan containerPlan, state containerState, code int) {
	now := time.Now()
	state.Finished, state.ExitCode, state.Pid = &now, code, 0
	write(plan, state)
	os.Remove(plan.Cgroup)
}

// exitCode is as shells and the kubelet count it: a signal's number comes on top of 128.
func exitCode(state *os.ProcessState) int {
	status := state.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// begin starts the container's beginning in mounts of its own, and the copying of what it writes.
func begin(plan containerPlan, planFile string) (*exec.Cmd, *sync.WaitGroup, error) {
	if err := os.MkdirAll(filepath.Dir(plan.Log), 0o755); err != nil {
		return nil, nil, err
	}
	log, err := os.OpenFile(plan.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, nil, err
	}
	own, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	child := exec.Command(own, "enter", planFile)
	child.Env = plan.Env
	child.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	output, err := child.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	problems, err := child.StderrPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := child.Start(); err != nil {
		return nil, nil, err
	}
	var copied sync.WaitGroup
	var one sync.Mutex
	copied.Add(2)
	go copyLines(output, log, "stdout", &one, &copied)
	go copyLines(problems, log, "stderr", &one, &copied)
	return child, &copied, nil
}

// copyLines writes lines as container runtimes do, which Kubernetes calls the CRI's format: when,
// from which stream, whether it is the whole line (F) or a part of it (P), and the text.
func copyLines(from io.Reader, to io.Writer, stream string, one *sync.Mutex, done *sync.WaitGroup) {
	defer done.Done()
	lines := bufio.NewReaderSize(from, 16<<10)
	for {
		text, part, err := lines.ReadLine()
		if err != nil {
			return
		}
		tag := map[bool]string{true: "P", false: "F"}[part]
		one.Lock()
		fmt.Fprintf(to, "%s %s %s %s\n", time.Now().Format(time.RFC3339Nano), stream, tag, text)
		one.Unlock()
	}
}
