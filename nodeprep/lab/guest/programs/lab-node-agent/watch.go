package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	watchSeconds = 300
	retryPause   = time.Second
)

// known is anything that has a name and a version in the cluster.
type known interface{ meta() metadata }

// collection is all objects of one kind, as far as the API server has told.
type collection[T known] struct {
	path string
	mu   sync.Mutex
	// Whether all of it was ever read: until then nothing follows from what is not there.
	complete bool
	items    map[string]T
}

func collect[T known](path string) *collection[T] {
	return &collection[T]{path: path, items: map[string]T{}}
}

// all returns what there is, by UID, and whether that is all.
func (c *collection[T]) all() (map[string]T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	copied := make(map[string]T, len(c.items))
	for uid, item := range c.items {
		copied[uid] = item
	}
	return copied, c.complete
}

// put adds what was made just now, so that it is not made again before the watch tells of it.
func (c *collection[T]) put(item T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.items[item.meta().UID] = item
}

// follow keeps the collection as the API server has it, and calls changed after each change.
// While there is no API server it keeps what it knows.
func (c *collection[T]) follow(api *api, changed func()) {
	for ; ; time.Sleep(retryPause) {
		version, err := c.list(api)
		for err == nil {
			changed()
			version, err = c.watch(api, version, changed)
		}
		say("watching %s: %v", c.path, err)
	}
}

func (c *collection[T]) list(api *api) (string, error) {
	var answer struct {
		Metadata metadata
		Items    []T
	}
	if err := api.get(c.path, &answer); err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.items = map[string]T{}
	for _, item := range answer.Items {
		c.items[item.meta().UID] = item
	}
	c.complete = true
	return answer.Metadata.ResourceVersion, nil
}

// watch takes in changes until the API server ends it, and returns the version to go on from.
func (c *collection[T]) watch(api *api, version string, changed func()) (string, error) {
	separator := "?"
	if strings.Contains(c.path, "?") {
		separator = "&"
	}
	query := "watch=1&allowWatchBookmarks=true&timeoutSeconds=%d&resourceVersion=%s"
	path := c.path + separator + fmt.Sprintf(query, watchSeconds, version)
	ctx, cancel := context.WithTimeout(context.Background(), 2*watchSeconds*time.Second)
	defer cancel()
	stream, err := api.open(ctx, http.MethodGet, path, "application/json", nil)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	decoder := json.NewDecoder(stream)
	for {
		var event struct {
			Type   string
			Object json.RawMessage
		}
		if decoder.Decode(&event) != nil {
			return version, nil
		}
		if event.Type == "ERROR" {
			return "", fmt.Errorf("%s", event.Object)
		}
		var item T
		if err := json.Unmarshal(event.Object, &item); err != nil {
			return "", err
		}
		version = item.meta().ResourceVersion
		if event.Type != "BOOKMARK" {
			c.take(event.Type, item)
			changed()
		}
	}
}

func (c *collection[T]) take(kind string, item T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kind == "DELETED" {
		delete(c.items, item.meta().UID)
		return
	}
	c.items[item.meta().UID] = item
}
