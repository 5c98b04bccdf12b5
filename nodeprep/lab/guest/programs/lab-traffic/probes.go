package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

var (
	errTimeout = errors.New("timeout")
	errSilent  = errors.New("connected, but no answer")
	errClosed  = errors.New("closed by the server")
	errRefused = syscall.ECONNREFUSED
	errOther   = errors.New("somebody else answered")
	question   = []byte("probe\n")
)

// How often probes are looked over for those that are too late.
const lookEvery = 50 * time.Millisecond

// What a server of ours says first. Without a service's rules a packet goes where the node's routes
// lead, and on some networks a proxy answers there for every address of the world.
const hello = "hello from "

// target is what probes go to. To connect has to fit into the timeout, which is no longer than the
// kernel's wait before it sends a lost SYN again: a retry that worked would hide a loss. The answer
// of a server that is connected may take longer: an emulated processor is often busy elsewhere.
type target struct {
	to       string
	udp      bool
	timeout  time.Duration
	patience time.Duration
	// Close with a reset: neither side remembers the connection for minutes afterwards.
	reset bool
}

// probe is one new connection, or one datagram from a new port, on its way.
type probe struct {
	number   int
	socket   int
	begun    time.Time
	asked    bool
	answered string
}

// probes are all that are under way: one thread, one epoll. Go's own connections would cost
// several times as much of an emulated processor, which this is to leave to what it measures.
type probes struct {
	target
	address syscall.Sockaddr
	family  int
	epoll   int
	waiting []*probe
	looked  time.Time
	open    map[int32]*probe
	ended   func(number int, took time.Duration, answer string, err error)
}

func newProbes(target target, ended func(int, time.Duration, string, error)) (*probes, error) {
	address, err := net.ResolveTCPAddr("tcp", target.to)
	if err != nil {
		return nil, err
	}
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	p := &probes{target: target, epoll: epoll, open: map[int32]*probe{}, ended: ended}
	if v4 := address.IP.To4(); v4 != nil {
		inet := &syscall.SockaddrInet4{Port: address.Port}
		copy(inet.Addr[:], v4)
		p.address, p.family = inet, syscall.AF_INET
	} else {
		inet := &syscall.SockaddrInet6{Port: address.Port}
		copy(inet.Addr[:], address.IP.To16())
		p.address, p.family = inet, syscall.AF_INET6
	}
	return p, err
}

// begin starts a probe. What becomes of it is told by wait.
func (p *probes) begin(number int) {
	kind := syscall.SOCK_STREAM
	if p.udp {
		kind = syscall.SOCK_DGRAM
	}
	begun := time.Now()
	socket, err := syscall.Socket(p.family, kind|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		p.ended(number, 0, "", err)
		return
	}
	one := &probe{number: number, socket: socket, begun: begun}
	p.waiting, p.open[int32(socket)] = append(p.waiting, one), one
	if p.reset {
		syscall.SetsockoptLinger(socket, syscall.SOL_SOCKET, syscall.SO_LINGER,
			&syscall.Linger{Onoff: 1})
	}
	if err := syscall.Connect(socket, p.address); err != nil && err != syscall.EINPROGRESS {
		p.end(one, err)
		return
	}
	// On one machine the connection is there before connect has returned.
	if p.ask(one); one.socket >= 0 {
		p.watch(one, syscall.EPOLL_CTL_ADD)
	}
}

// ask sends the question if there is a connection to send it on.
func (p *probes) ask(one *probe) {
	_, err := syscall.Write(one.socket, question)
	if err == syscall.EAGAIN {
		// A refusal by ICMP is told here at once, and anywhere else only after the next SYN.
		number, _ := syscall.GetsockoptInt(one.socket, syscall.SOL_SOCKET, syscall.SO_ERROR)
		err = syscall.Errno(number)
	} else if one.asked = err == nil; one.asked {
		return
	}
	if err != syscall.Errno(0) {
		p.end(one, err)
	}
}

func (p *probes) watch(one *probe, operation int) {
	wanted := uint32(syscall.EPOLLIN)
	if !one.asked {
		wanted |= syscall.EPOLLOUT
	}
	event := syscall.EpollEvent{Events: wanted, Fd: int32(one.socket)}
	if err := syscall.EpollCtl(p.epoll, operation, one.socket, &event); err != nil {
		p.end(one, err)
	}
}

// wait lets probes end until the time has come, or the first deadline, or something happened.
func (p *probes) wait(until time.Time) {
	if len(p.waiting) > 0 {
		if next := p.looked.Add(lookEvery); next.Before(until) {
			until = next
		}
	}
	// Rounded up: too early would mean to come back at once, again and again.
	pause := (time.Until(until) + time.Millisecond - 1) / time.Millisecond
	if pause < 0 {
		pause = 0
	}
	for p.hear(int(pause)) {
		pause = 0
	}
	p.expire()
}

// hear proceeds with what has happened within some milliseconds, and tells whether there is more.
func (p *probes) hear(milliseconds int) bool {
	var events [64]syscall.EpollEvent
	count, _ := syscall.EpollWait(p.epoll, events[:], milliseconds)
	for number := 0; number < count; number++ {
		if one := p.open[events[number].Fd]; one != nil {
			p.proceed(one, events[number].Events)
		}
	}
	return count == len(events)
}

func (p *probes) proceed(one *probe, events uint32) {
	if !one.asked {
		p.ask(one)
		if one.asked {
			p.watch(one, syscall.EPOLL_CTL_MOD)
		} else if one.socket >= 0 && events&syscall.EPOLLERR != 0 {
			p.end(one, errRefused)
		}
		return
	}
	var text [maxDatagram]byte
	size, err := syscall.Read(one.socket, text[:])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
	case err != nil:
		p.end(one, err)
	case size == 0:
		p.end(one, errClosed)
	default:
		one.answered += string(text[:size])
		p.judge(one)
	}
}

// judge ends a probe whose answer is whole: the server's greeting, and the echo of the question.
// So nothing stays unread, and nobody else's answer is taken for it.
func (p *probes) judge(one *probe) {
	switch {
	case len(one.answered) >= len(hello) && !strings.HasPrefix(one.answered, hello):
		p.end(one, errOther)
	case strings.HasSuffix(one.answered, "\n"+string(question)):
		p.end(one, nil)
	}
}

// expire ends those that are too late, and forgets those that have ended.
func (p *probes) expire() {
	now := time.Now()
	if now.Sub(p.looked) < lookEvery {
		return
	}
	p.looked = now
	waiting := p.waiting[:0]
	for _, one := range p.waiting {
		switch {
		case one.socket < 0:
		case (p.udp || !one.asked) && now.Sub(one.begun) >= p.timeout:
			p.end(one, errTimeout)
		case now.Sub(one.begun) >= p.patience:
			p.end(one, errSilent)
		default:
			waiting = append(waiting, one)
		}
	}
	p.waiting = waiting
}

func (p *probes) end(one *probe, err error) {
	delete(p.open, int32(one.socket))
	syscall.Close(one.socket)
	one.socket = -1
	answer, _, _ := strings.Cut(one.answered, "\n")
	p.ended(one.number, time.Since(one.begun), strings.TrimSpace(answer), err)
}

// targetOf adds the flags that say what to connect to.
func targetOf(flags *flag.FlagSet) func() (target, error) {
	to := flags.String("to", "", "`ADDR:PORT` to connect to")
	udp := flags.Bool("udp", false, "send a datagram from a new port instead of connecting")
	timeout := flags.Duration("timeout", time.Second, "to connect")
	patience := flags.Duration("patience", 10*time.Second, "for all of one connection")
	reset := flags.Bool("reset", false, "close with a reset, which conntrack forgets in seconds")
	return func() (target, error) {
		if *to == "" {
			return target{}, fmt.Errorf("%s needs --to ADDR:PORT", flags.Name())
		}
		return target{
			to: *to, udp: *udp, timeout: *timeout, patience: *patience, reset: *reset,
		}, nil
	}
}

// ask prints one line a connection: what answered, or why nothing did, which is an error.
func ask(arguments []string) error {
	flags := flag.NewFlagSet("ask", flag.ExitOnError)
	wanted := targetOf(flags)
	times := flags.Int("times", 1, "how many connections, one after the other")
	flags.Parse(arguments)
	target, err := wanted()
	if err != nil {
		return err
	}
	failed := 0
	probes, err := newProbes(target, func(_ int, _ time.Duration, answer string, err error) {
		if err != nil {
			failed++
			answer = "failed: " + err.Error()
		}
		fmt.Fprintln(os.Stdout, answer)
	})
	if err != nil {
		return err
	}
	for number := 0; number < *times; number++ {
		probes.begin(number)
		for len(probes.waiting) > 0 {
			probes.wait(time.Now().Add(lookEvery))
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d failed", failed, *times)
	}
	return nil
}
