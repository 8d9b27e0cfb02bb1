// Command authority is the Entra emulator as a service of a cluster, for
// checks: it trusts what the cluster's own issuer signs, whose keys it fetches
// from the API server. Unlike credfree emulator it is not bound to loopback, so
// it is built for the checks only.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/credfree/credfree/exchange/entratest"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "authority:", err)
		os.Exit(1)
	}
}

func run() error {
	url := flag.String("url", "", "https origin that brokers reach it by")
	issuer := flag.String("issuer", "", "issuer of the cluster")
	issuerCA := flag.String("issuer-ca", "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt", "who signs the API server's certificate")
	cert, key := flag.String("cert", "/tls/tls.crt", "certificate"), flag.String("key", "/tls/tls.key", "its key")
	listen, manage := flag.String("listen", ":8443", "address of the token service"), flag.String("manage-listen", ":8080", "address of the checks' own questions")
	lifetime := flag.Duration("token-lifetime", 0, "of access tokens; 0: as Entra's")
	flag.Parse()
	pem, err := os.ReadFile(*issuerCA)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return errors.New("no certificate in " + *issuerCA)
	}
	server, err := entratest.New(entratest.Config{
		BaseURL: *url, Directory: directory(*issuer), TokenLifetime: *lifetime,
		HTTPClient: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}},
	})
	if err != nil {
		return err
	}
	var delay, waiting atomic.Int64 // before each answer of the token service, and how many it holds up
	tokens := &http.Server{Addr: *listen, ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			waiting.Add(1)
			time.Sleep(time.Duration(delay.Load()))
			waiting.Add(-1)
		}
		server.ServeHTTP(w, r)
	})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /requests", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(server.Requests())
	})
	mux.HandleFunc("PUT /delay", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.FormValue("of"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		delay.Store(int64(d))
	})
	mux.HandleFunc("GET /waiting", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, waiting.Load()) })
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /user-token", func(w http.ResponseWriter, r *http.Request) {
		token, err := server.UserToken(entratest.UserTokenRequest{
			Tenant: entratest.DemoTenantID, User: entratest.DemoUserID, Audience: r.FormValue("audience"), Client: entratest.DemoFrontendClientID, Lifetime: time.Hour,
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = fmt.Fprint(w, token)
	})
	checks := &http.Server{Addr: *manage, ReadHeaderTimeout: 5 * time.Second, Handler: mux}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ended := make(chan error, 2)
	go func() { ended <- tokens.ListenAndServeTLS(*cert, *key) }()
	go func() { ended <- checks.ListenAndServe() }()
	fmt.Println("ready: Entra emulator of a cluster, never for production")
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	return errors.Join(tokens.Close(), checks.Close())
}

// The second application, of an agent with other rights.
const (
	demoClient   = entratest.DemoClientID
	searchClient = "a1d4c0de-0000-4000-8000-00000000a9e8"
)

// directory is the demo's, in which two applications trust a service account of
// the cluster each by their names in it.
func directory(issuer string) entratest.Directory {
	d := entratest.DemoDirectory(issuer)
	tenant := &d.Tenants[0]
	for i := range tenant.Applications {
		if app := &tenant.Applications[i]; app.ClientID == demoClient {
			second := *app
			second.ClientID, second.Name, second.IdentifierURIs = searchClient, "search-agent", []string{"api://" + searchClient}
			second.AppRoles = nil
			tenant.Applications = append(tenant.Applications, second)
			break
		}
	}
	return d
}
