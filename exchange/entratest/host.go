package entratest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// HostConfig configures a Host. The zero value is usable: a DemoDirectory on
// random ports.
type HostConfig struct {
	// Addr, IssuerAddr and APIAddr are where the token service, the workload
	// issuer and the resource APIs listen. Empty: 127.0.0.1:0. Anything but a
	// loopback address is refused.
	Addr, IssuerAddr, APIAddr string
	// Management is where Server.Management is served, to be reached with TLS
	// from this machine: an address like the others. Empty: nowhere.
	Management string
	// Directory makes the directory once the issuer's URL is known. Nil:
	// DemoDirectory.
	Directory func(issuerURL string) Directory
	// Platforms are further workload issuers, below IssuerURL: IssuerURL/{platform}.
	Platforms []Platform
	// TokenLifetime and Now are those of Config.
	TokenLifetime time.Duration
	Now           func() time.Time
	// State is what Host.State returned earlier. The Host then has the same CA
	// and, where the addresses are empty, the same addresses. Nil: a new CA.
	State []byte
}

// Host runs a Server and an Issuer on loopback TLS, with certificates of a
// private CA that is made for it.
type Host struct {
	Server *Server
	Issuer *Issuer
	// Issuers are those of HostConfig.Platforms.
	Issuers map[Platform]*Issuer
	// URL is the authority, IssuerURL the issuer of the workload tokens, APIURL
	// where Server.API is served.
	URL, IssuerURL, APIURL string
	// ManagementURL is that of the management endpoints, if there are any.
	ManagementURL string
	// CA is the certificate to trust, in PEM. It may only vouch for loopback.
	CA []byte

	ca     *privateCA
	pool   *x509.CertPool
	client *http.Client // of the Server, for the issuer's documents
	tokens *listener
	issuer *listener
	apis   *listener
	manage *listener // nil without HostConfig.Management
}

// Listen starts a Host. The caller must Close it.
func Listen(cfg HostConfig) (*Host, error) {
	if cfg.Directory == nil {
		cfg.Directory = DemoDirectory
	}
	ca, leaf, err := cfg.certificates()
	if err != nil {
		return nil, fmt.Errorf("entratest: %w", err)
	}
	h := &Host{CA: ca.pem(), ca: ca, pool: x509.NewCertPool()}
	h.pool.AddCert(ca.cert)
	h.client = h.Client()
	if h.issuer, err = listenLoopback(cfg.IssuerAddr, leaf); err != nil {
		return nil, fmt.Errorf("entratest: issuer: %w", err)
	}
	if h.tokens, err = listenLoopback(cfg.Addr, leaf); err != nil {
		return nil, errors.Join(fmt.Errorf("entratest: %w", err), h.issuer.stop())
	}
	if h.apis, err = listenLoopback(cfg.APIAddr, leaf); err != nil {
		return nil, errors.Join(fmt.Errorf("entratest: resource APIs: %w", err), h.Close())
	}
	h.APIURL = "https://" + h.apis.addr
	h.URL, h.IssuerURL = "https://"+h.tokens.addr, "https://"+h.issuer.addr
	if cfg.Management != "" {
		if h.manage, err = listenLoopback(cfg.Management, leaf); err != nil {
			return nil, errors.Join(fmt.Errorf("entratest: management: %w", err), h.Close())
		}
		h.ManagementURL = "https://" + h.manage.addr
	}
	if err := h.serve(cfg); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// certificates makes or restores the CA, and makes a server certificate.
func (cfg *HostConfig) certificates() (ca *privateCA, leaf tls.Certificate, err error) {
	if cfg.State != nil {
		ca, err = restore(cfg)
	} else {
		ca, err = newPrivateCA()
	}
	if err != nil {
		return nil, tls.Certificate{}, err
	}
	leaf, err = ca.leaf()
	return ca, leaf, err
}

// serve makes the handlers, which need the addresses, and starts them.
func (h *Host) serve(cfg HostConfig) (err error) {
	if h.Issuer, err = NewIssuer(IssuerConfig{URL: h.IssuerURL, Now: cfg.Now}); err != nil {
		return err
	}
	issuers, err := h.platformIssuers(cfg)
	if err != nil {
		return err
	}
	h.Server, err = New(Config{
		BaseURL:       h.URL,
		Directory:     cfg.Directory(h.IssuerURL),
		HTTPClient:    h.client,
		Now:           cfg.Now,
		TokenLifetime: cfg.TokenLifetime,
	})
	if err != nil {
		return err
	}
	h.issuer.start(issuersHandler(issuers))
	h.apis.start(h.Server.API())
	h.tokens.start(h.Server)
	if h.manage != nil {
		h.manage.start(h.Server.Management(issuers...))
	}
	return nil
}

// Client returns a new client that trusts the host's CA and nothing else.
func (h *Host) Client() *http.Client {
	return &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: h.pool, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     30 * time.Second,
		},
	}
}

// Pause closes the token service's listener and all its connections: clients
// are refused, as when Entra cannot be reached. The issuer keeps running.
func (h *Host) Pause() error { return h.tokens.stop() }

// Resume listens again on the same address. It does nothing on a Host that is
// not paused, and fails when somebody else has taken the port.
func (h *Host) Resume() error { return h.tokens.reopen() }

// Close stops all listeners, cuts their connections and waits for the
// goroutines behind them. Requests on the way are cancelled.
func (h *Host) Close() error {
	err := errors.Join(h.tokens.stop(), h.issuer.stop(), h.apis.stop(), h.manage.stop())
	h.client.CloseIdleConnections()
	return err
}

// listener serves one handler on one address, and can do so again later.
type listener struct {
	addr string
	cert tls.Certificate

	mu      sync.Mutex // guards the fields below
	ln      net.Listener
	handler http.Handler
	server  *http.Server
	active  *gate
	cancel  context.CancelFunc
	done    chan struct{}
}

func listenLoopback(addr string, cert tls.Certificate) (*listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("address %q is not loopback: an emulator that gives out tokens must not be reachable from elsewhere; use 127.0.0.1, [::1] or localhost", addr)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	// localhost is a name, and names can be pointed anywhere.
	if tcp, ok := ln.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("address %q resolved to %s, which is not loopback", addr, ln.Addr()), ln.Close())
	}
	return &listener{addr: ln.Addr().String(), cert: cert, ln: ln}, nil
}

// start serves handler on the open listener.
func (l *listener) start(handler http.Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handler = handler
	l.serveLocked()
}

func (l *listener) serveLocked() {
	ctx, cancel := context.WithCancel(context.Background())
	active := &gate{handler: l.handler}
	server := &http.Server{
		Handler:           active,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          discardLog(),
	}
	serve := server.Serve
	if len(l.cert.Certificate) > 0 {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{l.cert}, MinVersion: tls.VersionTLS12}
		serve = func(ln net.Listener) error { return server.ServeTLS(ln, "", "") }
	}
	done, ln := make(chan struct{}), l.ln
	go func() {
		defer close(done)
		_ = serve(ln) // always ErrServerClosed: only stop ends it
	}()
	l.server, l.active, l.cancel, l.done = server, active, cancel, done
}

// stop closes the listener and its connections and waits. It may be repeated.
func (l *listener) stop() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ln == nil:
		return nil
	case l.server == nil: // never started
		ln := l.ln
		l.ln = nil
		return ln.Close()
	}
	err := l.server.Close()
	l.cancel()
	<-l.done
	l.active.wait()
	l.ln, l.server = nil, nil
	return err
}

func (l *listener) reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ln != nil {
		return nil
	}
	ln, err := net.Listen("tcp", l.addr)
	if err != nil {
		return fmt.Errorf("entratest: resume: %w", err)
	}
	l.ln = ln
	l.serveLocked()
	return nil
}

// gate counts the requests inside a handler, because http.Server.Close does not
// wait for them.
type gate struct {
	handler http.Handler

	mu     sync.Mutex // guards closed, and orders enter before wait
	closed bool
	inside sync.WaitGroup
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.enter() {
		return // the connection is closed already
	}
	defer g.inside.Done()
	g.handler.ServeHTTP(w, r)
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.inside.Add(1)
	}
	return !g.closed
}

func (g *gate) wait() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
}
