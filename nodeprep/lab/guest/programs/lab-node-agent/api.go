package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

const (
	patience   = 8 * time.Second
	mergePatch = "application/merge-patch+json"
	strategic  = "application/strategic-merge-patch+json"
)

// object is something to be sent; what is read has types of its own.
type object map[string]any

// api is where the cluster's objects are.
type api struct {
	server string
	token  string
	client *http.Client
}

// refusal is an answer of the API server that is no success.
type refusal struct {
	status int
	words  string
}

func (r refusal) Error() string { return fmt.Sprintf("%d: %s", r.status, r.words) }

// statusOf returns the HTTP status of an error that the API server gave, or 0.
func statusOf(err error) int {
	var refused refusal
	errors.As(err, &refused)
	return refused.status
}

// readKubeconfig reads the first cluster and the first user of a kubeconfig in JSON.
func readKubeconfig(file string) (*api, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server    string
				Authority []byte `json:"certificate-authority-data"`
			}
		}
		Users []struct{ User struct{ Token string } }
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, err
	}
	if len(config.Clusters) == 0 || len(config.Users) == 0 {
		return nil, fmt.Errorf("it names no cluster, or no user")
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(config.Clusters[0].Cluster.Authority)
	// One connection carries all the watches.
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: authorities},
		ForceAttemptHTTP2: true,
	}
	return &api{
		server: config.Clusters[0].Cluster.Server,
		token:  config.Users[0].User.Token,
		client: &http.Client{Transport: transport},
	}, nil
}

// open asks and returns the answer's body, which the caller reads and closes.
func (a *api) open(ctx context.Context, method, path, kind string, body any) (io.ReadCloser, error) {
	var text io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		text = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.server+path, text)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+a.token)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Content-Type", kind)
	response, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		words, _ := io.ReadAll(io.LimitReader(response.Body, 2000))
		response.Body.Close()
		return nil, refusal{response.StatusCode, string(words)}
	}
	return response.Body, nil
}

// ask sends something and reads the answer into a value, unless that is nil.
func (a *api) ask(method, path, kind string, body, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := a.open(ctx, method, path, kind, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	if into == nil {
		_, err = io.Copy(io.Discard, answer)
		return err
	}
	return json.NewDecoder(answer).Decode(into)
}

func (a *api) get(path string, into any) error {
	return a.ask(http.MethodGet, path, "application/json", nil, into)
}

func (a *api) create(path string, thing, into any) error {
	return a.ask(http.MethodPost, path, "application/json", thing, into)
}

func (a *api) patch(path, kind string, part any) error {
	return a.ask(http.MethodPatch, path, kind, part, nil)
}

// remove deletes exactly this object: one that has taken its name since is left alone.
func (a *api) remove(path, uid string, grace *int) error {
	options := object{"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": object{"uid": uid}}
	if grace != nil {
		options["gracePeriodSeconds"] = *grace
	}
	err := a.ask(http.MethodDelete, path, "application/json", options, nil)
	if status := statusOf(err); status == http.StatusNotFound || status == http.StatusConflict {
		return nil
	}
	return err
}
