package inject

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Cluster reads service accounts from the API server, with the rights of the
// pod that it runs in. It is safe for concurrent use.
type Cluster struct {
	url       string
	tokenFile string
	http      *http.Client
}

// ServiceAccountFolder is where a pod finds its rights in the cluster.
const ServiceAccountFolder = "/var/run/secrets/kubernetes.io/serviceaccount"

const (
	accountTime = 3 * time.Second // the API server waits no longer for the whole webhook
	maxAccount  = 1 << 20
)

// NewCluster returns a Cluster for the API server at host and port, with the
// token and the certificate authority in folder.
func NewCluster(host, port, folder string) (*Cluster, error) {
	if host == "" || port == "" {
		return nil, errors.New("the API server is not known: this is not a pod")
	}
	pem, err := os.ReadFile(folder + "/ca.crt")
	if err != nil {
		return nil, fmt.Errorf("the API server's certificate authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("the API server's certificate authority: the file holds no certificate")
	}
	return &Cluster{url: "https://" + net.JoinHostPort(host, port), tokenFile: folder + "/token", http: &http.Client{
		Timeout:       accountTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{ // no proxy: the API server is the cluster's own
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute,
		},
	}}, nil
}

// Account reads the annotations of a service account. One that does not exist
// has none: the API server refuses the pod anyway.
func (c *Cluster) Account(ctx context.Context, namespace, name string) (Account, error) {
	token, err := os.ReadFile(c.tokenFile) // kubelet replaces it
	if err != nil {
		return Account{}, fmt.Errorf("the webhook's own token: %w", err)
	}
	at := c.url + "/api/v1/namespaces/" + url.PathEscape(namespace) + "/serviceaccounts/" + url.PathEscape(name)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return Account{}, errors.New("the service account has no URL")
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return Account{}, fmt.Errorf("read service account %s: %w", name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAccount))
	switch {
	case err != nil:
		return Account{}, fmt.Errorf("read service account %s: %w", name, err)
	case resp.StatusCode == http.StatusNotFound:
		return Account{}, nil
	case resp.StatusCode != http.StatusOK:
		return Account{}, fmt.Errorf("read service account %s: the API server answered %d; may the webhook get service accounts?", name, resp.StatusCode)
	}
	var account struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if json.Unmarshal(body, &account) != nil {
		return Account{}, fmt.Errorf("read service account %s: the answer is not a service account", name)
	}
	return Account{Annotations: account.Metadata.Annotations}, nil
}
