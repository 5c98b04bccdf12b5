package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

const (
	// An HTTP client speaks first and other clients may wait to be spoken to: after this long
	// without a word, it is one of the others.
	patience = 200 * time.Millisecond
	// Thousands of connections stay open at once on a node with little memory.
	readBuffer  = 512
	maxDatagram = 4096
)

// serve answers on the addresses it is told until it is killed.
func serve(arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	tcp := flags.String("tcp", "", "`ADDR:PORT` to answer on with a greeting and echoes")
	udp := flags.String("udp", "", "`ADDR:PORT` to echo datagrams on, a greeting before each")
	flags.Parse(arguments)
	if *tcp == "" && *udp == "" {
		return fmt.Errorf("serve needs --tcp or --udp")
	}
	ended := make(chan error)
	if *tcp != "" {
		quiet := net.ListenConfig{KeepAlive: -1}
		listener, err := quiet.Listen(context.Background(), "tcp", *tcp)
		if err != nil {
			return err
		}
		go func() { ended <- serveTCP(listener) }()
	}
	if *udp != "" {
		socket, err := net.ListenPacket("udp", *udp)
		if err != nil {
			return err
		}
		go func() { ended <- serveUDP(socket) }()
	}
	return <-ended
}

func serveTCP(listener net.Listener) error {
	for {
		connection, err := listener.Accept()
		if err != nil {
			// No file left, most likely: those that are there may end soon.
			if problem, ok := err.(net.Error); ok && problem.Timeout() {
				time.Sleep(patience)
				continue
			}
			return err
		}
		go answer(connection)
	}
}

// answer greets, then echoes until the client closes. Who asks for a page gets one instead.
// A client's first words and the greeting go back in one piece: each piece costs a packet.
func answer(connection net.Conn) {
	defer connection.Close()
	text := make([]byte, readBuffer)
	connection.SetReadDeadline(time.Now().Add(patience))
	size, err := connection.Read(text)
	connection.SetReadDeadline(time.Time{})
	greeting := greetingOf(connection.LocalAddr())
	if strings.HasPrefix(string(text[:size]), "GET ") {
		answerPage(connection, text[:size], greeting)
		return
	}
	reply := append([]byte(greeting), text[:size]...)
	for err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		if _, err = connection.Write(reply); err == nil {
			size, err = connection.Read(text)
			reply = text[:size]
		}
	}
}

// answerPage reads the request to its end before it answers: closing with something unread would
// reset the connection.
func answerPage(connection net.Conn, request []byte, body string) {
	connection.SetReadDeadline(time.Now().Add(5 * time.Second))
	more := make([]byte, readBuffer)
	for !bytes.Contains(request, []byte("\r\n\r\n")) && len(request) < maxDatagram {
		size, err := connection.Read(more)
		if err != nil {
			return
		}
		request = append(request, more[:size]...)
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
	fmt.Fprintf(connection, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
}

func serveUDP(socket net.PacketConn) error {
	greeting := []byte(greetingOf(socket.LocalAddr()))
	datagram := make([]byte, maxDatagram)
	for {
		size, sender, err := socket.ReadFrom(datagram)
		if err != nil {
			return err
		}
		socket.WriteTo(append(greeting, datagram[:size]...), sender)
	}
}

func greetingOf(address net.Addr) string {
	own, _, _ := net.SplitHostPort(address.String())
	return hello + own + "\n"
}
