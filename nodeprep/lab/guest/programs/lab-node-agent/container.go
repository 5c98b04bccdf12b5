package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

const (
	logsFolder   = "/var/log/pods"
	cgroupFolder = "/sys/fs/cgroup"
	searchPath   = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// containerFiles is where a pod's container is on the disk.
type containerFiles struct{ folder string }

func containerOf(uid string) containerFiles {
	return containerFiles{filepath.Join(podsFolder, uid)}
}

// containerPlan is all that its keeper and its beginning need to know. It is written to the disk,
// and read from there by them.
type containerPlan struct {
	ID      string
	Restart int
	Command []string
	Env     []string
	// Files of the node, under the names that they have inside.
	Files  map[string]string
	Mounts []mount
	Root   string
	Cgroup string
	Log    string
	State  string
	Last   object
}

// containerState is how a container is, as its keeper writes it down.
type containerState struct {
	ID       string
	Restart  int
	Boot     string
	Pid      int
	Started  *time.Time
	Finished *time.Time
	ExitCode int
	// How the one before it ended.
	Last object
}

func (c containerFiles) file(name string) string { return filepath.Join(c.folder, name) }

// read returns the state. A container that the node's own end took with it has ended then.
func (c containerFiles) read() containerState {
	var state containerState
	// Asked first: what a keeper writes as its last is not to be taken for its silence.
	running := c.running()
	text, err := os.ReadFile(c.file("state.json"))
	if err != nil || json.Unmarshal(text, &state) != nil {
		return containerState{}
	}
	if state.Finished == nil && !running {
		now := time.Now()
		state.Finished, state.ExitCode, state.Pid = &now, 255, 0
		written, _ := json.Marshal(state)
		replace(c.file("state.json"), written)
	}
	return state
}

// justEnded says whether a container of this boot has ended: after a boot all start at once.
func (s containerState) justEnded() bool { return s.Finished != nil && s.Boot == bootID() }

func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(text)
}

// running says whether a keeper holds the container's lock: it does so for as long as its process
// runs, and nobody else can seem to, whatever number its process has.
func (c containerFiles) running() bool {
	lock, err := os.Open(c.file("lock"))
	if err != nil {
		return false
	}
	defer lock.Close()
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil
}

// nextContainer says what is to be started.
func nextContainer(
	one pod, image image, mounts []mount, files containerFiles, before containerState,
) containerPlan {
	wanted := one.Spec.Containers[0]
	restart := 0
	if before.ID != "" {
		restart = before.Restart + 1
	}
	env := append([]string{"PATH=" + searchPath}, image.env...)
	values := map[string]string{}
	for _, variable := range wanted.Env {
		value := variable.Value
		if variable.ValueFrom != nil && variable.ValueFrom.FieldRef != nil {
			value = one.field(variable.ValueFrom.FieldRef.FieldPath)
		}
		values[variable.Name] = value
		env = append(env, variable.Name+"="+value)
	}
	command := wanted.Command
	if len(command) == 0 {
		command = image.command
	}
	id := newID()
	return containerPlan{
		ID:      id,
		Restart: restart,
		Command: expand(append(append([]string{}, command...), wanted.Args...), values),
		Env:     env,
		Files:   image.files,
		Mounts:  mounts,
		Root:    files.file("root"),
		Cgroup:  filepath.Join(podCgroup(one.Metadata.UID), id),
		Log:     filepath.Join(podLogs(one), wanted.Name, fmt.Sprintf("%d.log", restart)),
		State:   files.file("state.json"),
		Last:    before.terminated(),
	}
}

// podCgroup is the kubelet's own place for a pod that asks for no resources: whoever sees a process
// there knows its pod.
func podCgroup(uid string) string {
	return filepath.Join(cgroupFolder, "kubepods", "besteffort", "pod"+uid)
}

func podLogs(one pod) string {
	about := one.Metadata
	return filepath.Join(logsFolder, about.Namespace+"_"+about.Name+"_"+about.UID)
}

func newID() string {
	var random [32]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

var reference = regexp.MustCompile(`\$\(([A-Za-z_][A-Za-z0-9_]*)\)`)

// expand puts variables into words, as $(NAME). What is not known stays as it is.
func expand(words []string, values map[string]string) []string {
	expanded := make([]string, len(words))
	for place, word := range words {
		expanded[place] = reference.ReplaceAllStringFunc(word, func(found string) string {
			if value, there := values[found[2:len(found)-1]]; there {
				return value
			}
			return found
		})
	}
	return expanded
}

// start leaves a keeper behind. It is handed the lock, locked: there is no moment in which the
// container runs and does not seem to.
func (c containerFiles) start(plan containerPlan) error {
	text, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	if err := replace(c.file("plan.json"), text); err != nil {
		return err
	}
	lock, err := os.OpenFile(c.file("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return err
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	keeper := exec.Command(own, "keep", c.file("plan.json"))
	keeper.ExtraFiles = []*os.File{lock}
	keeper.Stderr = os.Stderr
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := keeper.Start(); err != nil {
		return err
	}
	go keeper.Wait()
	return nil
}

// clear removes all that is left of a pod that has ended, its log too.
func (c containerFiles) clear(one pod) {
	cgroup := podCgroup(one.Metadata.UID)
	inner, _ := filepath.Glob(cgroup + "/*/cgroup.procs")
	for _, file := range inner {
		os.Remove(filepath.Dir(file))
	}
	os.Remove(cgroup)
	os.RemoveAll(podLogs(one))
	os.RemoveAll(c.folder)
}
