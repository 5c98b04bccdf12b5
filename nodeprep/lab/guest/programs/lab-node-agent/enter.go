package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// enter makes this process the container's: in its cgroup, in a root of its own, and then it is
// the container's program. The mounts were made its own before it began.
//
// The root is the node's own, under a layer that takes what is written: what the pod sees of its
// volumes, and what it writes elsewhere, is not to be found on the node.
func enter(planFile string) {
	plan, err := readPlan(planFile)
	if err == nil {
		err = join(plan.Cgroup)
	}
	if err == nil {
		err = enterRoot(plan)
	}
	if err == nil && len(plan.Command) == 0 {
		err = fmt.Errorf("it has no command")
	}
	if err == nil {
		err = syscall.Exec(plan.Command[0], plan.Command, plan.Env)
	}
	fatal("%v: %v", plan.Command, err)
}

func join(cgroup string) error {
	if err := os.MkdirAll(cgroup, 0o755); err != nil {
		return err
	}
	own := []byte(strconv.Itoa(os.Getpid()))
	return os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), own, 0o644)
}

// enterRoot goes into the root, and mounts there what is opened before: from inside, a path such
// as /var/run/secrets leads where it leads inside.
func enterRoot(plan containerPlan) error {
	root, err := makeRoot(plan.Root)
	if err != nil {
		return err
	}
	wanted := plan.mounts()
	sources := make([]int, len(wanted))
	for place, one := range wanted {
		const path = 0x200000 // O_PATH: a place, not what is in it
		sources[place], err = syscall.Open(one.Source, path|syscall.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", one.Source, err)
		}
	}
	if err := syscall.Chroot(root); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	for place, one := range wanted {
		if err := bind(sources[place], one.Target, one.ReadOnly); err != nil {
			return fmt.Errorf("%s: %w", one.Target, err)
		}
	}
	return nil
}

// makeRoot returns a root like the node's, with the kernel's own folders in it.
func makeRoot(folder string) (string, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	// In memory, and in these mounts only: it is gone with the process.
	if err := syscall.Mount("container", folder, "tmpfs", 0, "mode=755"); err != nil {
		return "", fmt.Errorf("tmpfs: %w", err)
	}
	parts := map[string]string{}
	for _, name := range []string{"upper", "work", "root"} {
		parts[name] = filepath.Join(folder, name)
		if err := os.Mkdir(parts[name], 0o755); err != nil {
			return "", err
		}
	}
	root := parts["root"]
	options := fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", parts["upper"], parts["work"])
	if err := syscall.Mount("overlay", root, "overlay", 0, options); err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	for _, kernel := range []string{"/proc", "/sys", "/dev"} {
		flags := uintptr(syscall.MS_BIND | syscall.MS_REC)
		if err := syscall.Mount(kernel, filepath.Join(root, kernel), "", flags, ""); err != nil {
			return "", fmt.Errorf("%s: %w", kernel, err)
		}
	}
	return root, nil
}

// mounts returns all that is seen inside and is not of the root itself.
func (p containerPlan) mounts() []mount {
	var files []mount
	for target, source := range p.Files {
		files = append(files, mount{source, target, true})
	}
	return append(files, p.Mounts...)
}

// bind makes an open folder or file seen at a path.
func bind(source int, target string, readOnly bool) error {
	from := fmt.Sprintf("/proc/self/fd/%d", source)
	found, err := os.Stat(from)
	if err != nil {
		return err
	}
	if found.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else {
		err = makeFile(target)
	}
	if err != nil {
		return err
	}
	if err := syscall.Mount(from, target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return err
	}
	if !readOnly {
		return nil
	}
	flags := uintptr(syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY)
	return syscall.Mount("", target, "", flags, "")
}

func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}
