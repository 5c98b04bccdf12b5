package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// held is what is written about the one connection; times are in seconds.
type held struct {
	To             string  `json:"to"`
	Local          string  `json:"local"`
	Remote         string  `json:"remote"`
	Greeting       string  `json:"greeting"`
	Sent           int     `json:"sent"`
	Echoed         int     `json:"echoed"`
	Alive          bool    `json:"alive"`
	LongestSilence float64 `json:"longest_silence"`
	Error          string  `json:"error"`
	Seconds        float64 `json:"seconds"`
	Done           bool    `json:"done"`
}

// holder keeps one connection, and writes about it.
type holder struct {
	held
	connection net.Conn
	reader     *bufio.Reader
	out        string
	patience   time.Duration
	start      time.Time
	heard      time.Time
	written    time.Time
}

// hold keeps one connection until it is told to end, with a numbered line each interval and its
// echo. A connection that broke is told in the file, and nothing more is sent; that it ever was
// there is what makes the program succeed.
func hold(arguments []string) error {
	flags := flag.NewFlagSet("hold", flag.ExitOnError)
	to := flags.String("to", "", "`ADDR:PORT` to connect to")
	every := flags.Duration("every", 200*time.Millisecond, "time from line to line")
	out := flags.String("out", "-", "`FILE` for the summary, rewritten every second")
	patience := flags.Duration("patience", 15*time.Second, "without an echo for this long, it broke")
	flags.Parse(arguments)
	if *to == "" {
		return fmt.Errorf("hold needs --to ADDR:PORT")
	}
	holder, err := connect(*to, *out, *patience)
	if err != nil {
		return err
	}
	defer holder.connection.Close()
	holder.keep(*every, stopped())
	holder.Done = true
	return holder.write()
}

func connect(to, out string, patience time.Duration) (*holder, error) {
	start := time.Now()
	connection, err := net.DialTimeout("tcp", to, patience)
	if err != nil {
		return nil, err
	}
	connection.SetDeadline(start.Add(patience))
	reader := bufio.NewReaderSize(connection, readBuffer)
	greeting, err := reader.ReadString('\n')
	if err == nil && !strings.HasPrefix(greeting, hello) {
		err = errOther
	}
	if err != nil {
		return nil, err
	}
	return &holder{
		held: held{
			To: to, Alive: true, Greeting: strings.TrimSpace(greeting),
			Local: connection.LocalAddr().String(), Remote: connection.RemoteAddr().String(),
		},
		connection: connection, reader: reader, out: out, patience: patience,
		start: start, heard: time.Now(),
	}, nil
}

// keep sends line after line. The last one is sent after the word to end: it is the proof that
// the connection was there up to then.
func (h *holder) keep(every time.Duration, stop <-chan struct{}) {
	for ending := false; h.Alive; {
		h.exchange()
		if ending {
			return
		}
		if time.Since(h.written) >= progressEvery && h.out != "-" {
			h.write()
		}
		select {
		case <-stop:
			ending = true
		case <-time.After(every):
		}
	}
	h.write()
	<-stop
}

func (h *holder) exchange() {
	h.Sent++
	line := fmt.Sprintf("line %d\n", h.Sent)
	h.connection.SetDeadline(time.Now().Add(h.patience))
	_, err := h.connection.Write([]byte(line))
	for err == nil {
		var echo string
		if echo, err = h.reader.ReadString('\n'); echo == line {
			h.Echoed++
			break
		} else if err == nil {
			err = fmt.Errorf("sent %q and got %q", line, echo)
		}
	}
	h.listen()
	if err != nil {
		h.Alive, h.Error = false, reason(err)
	}
}

// listen notes how long it has been silent.
func (h *holder) listen() {
	now := time.Now()
	if silence := seconds(now.Sub(h.heard)); silence > h.LongestSilence {
		h.LongestSilence = silence
	}
	h.heard = now
}

// reason is an error without the addresses in it.
func reason(err error) string {
	var number syscall.Errno
	switch {
	case errors.As(err, &number):
		return number.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errTimeout.Error()
	case errors.Is(err, io.EOF):
		return errClosed.Error()
	}
	return err.Error()
}

func (h *holder) write() error {
	h.written = time.Now()
	h.Seconds = seconds(time.Since(h.start))
	text, err := json.MarshalIndent(h.held, "", "  ")
	if err != nil {
		return err
	}
	return replace(h.out, append(text, '\n'))
}
