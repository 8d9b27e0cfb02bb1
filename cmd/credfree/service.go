package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/cache"
	"github.com/credfree/credfree/broker/issuance"
	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/broker/peer"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/broker/recent"
	"github.com/credfree/credfree/exchange"
)

// serviceConfig is what a running broker is made of.
type serviceConfig struct {
	policy      *policy.Policy
	ceiling     bool   // whether there has to be one
	listen      string // TCP address for agents
	adminListen string // TCP address for operators
	socketDir   string // folder of the agents' unix sockets
	// socketFolders gives each socket a folder below, for volumes of which each
	// agent mounts one.
	socketFolders bool
	hosts         []string
	authSidecar   bool // whether its door is open
	sidecar       localapi.SidecarOptions
	legacyMSI     bool // whether api-version 2017-09-01 is answered
	inPod         bool // whether the guardrails of a pod are looked at
	audit         io.Writer
	auditFormat   issuance.Format // of its lines; "" is the native one
	auditDetail   func() string   // what readiness shows of it; nil for nothing
	telemetry     *telemetry
	log           *slog.Logger
	memory        *recent.Memory // what operators look at; nil: one that keeps no spans
	adminKey      string         // file with the operator key; "" for none
	policyFile    string         // for operators to see
}

// service is a broker with its listeners.
type service struct {
	cfg        serviceConfig
	broker     *broker.Broker
	cache      *cache.Cache[exchange.Token]
	recorder   *issuance.Recorder
	usersKey   []byte // of this run, for policies that hash users and name no key
	memory     *recent.Memory
	page       *admin.Handler
	undumpable error // why the broker's memory can be dumped; nil when it cannot
	agents     *http.Server
	operators  *http.Server
	tcp        [2]net.Listener          // for agents, and for operators
	serving    sync.WaitGroup           // of all listeners
	imds       atomic.Pointer[imdsFact] // as found at the start; nil: not asked

	mu      sync.Mutex // guards the rest; held while a policy is put in force
	rules   *ruleSet
	sockets map[string]net.Listener // by path
	reload  reloadState
	// ceilingFailed is why the ceiling on the disk is not in force; nil when it is.
	ceilingFailed error
	fatal         context.CancelCauseFunc // nil before serve
}

// newService listens, and serves nobody yet.
func newService(cfg serviceConfig) (*service, error) {
	s := &service{cfg: cfg, usersKey: make([]byte, 32), sockets: map[string]net.Listener{}, undumpable: makeUndumpable()}
	_, _ = rand.Read(s.usersKey) // never fails: it ends the program instead
	if err := s.assemble(); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.closeListeners())
	}
	return s, nil
}

// assemble wires the broker and its doors.
func (s *service) assemble() error {
	cfg := s.cfg
	s.reload.since = time.Now()
	if s.memory = cfg.memory; s.memory == nil {
		s.memory = recent.New(s.reload.since)
	}
	var err error
	if s.cache, err = cache.New[exchange.Token](cache.Config{}); err != nil {
		return err
	}
	if s.recorder, err = issuance.NewRecorder(issuance.Config{
		Audit: cfg.audit, Format: cfg.auditFormat, Tracer: cfg.telemetry.tracer(), Hits: cfg.telemetry.hits, Meter: cfg.telemetry.meter(), Logger: cfg.telemetry.logger(), Log: cfg.log, Memory: s.memory, NoHits: cfg.telemetry.noHits,
	}); err != nil {
		return err
	}
	if s.rules, err = s.makeRules(cfg.policy, nil); err != nil {
		return err
	}
	s.broker, err = broker.New(broker.Config{Cache: s.cache, Recorder: s.recorder}, s.rules.Rules)
	if err != nil {
		return err
	}
	// APIs of a custom cloud may have certificates of its caFile's authorities.
	apis, err := newTrusting(func() string { return s.inForce().Policy.Cloud.CAFile }, func(pem []byte) *http.Transport {
		return localapi.APITransport(alsoRoots(pem), http.ProxyFromEnvironment)
	})
	if err != nil {
		return err
	}
	doors, err := localapi.New(localapi.Config{Broker: s.broker, Hosts: cfg.hosts, LegacyMSI: cfg.legacyMSI, AuthSidecar: cfg.authSidecar, Sidecar: cfg.sidecar, CallThrough: localapi.CallThrough{
		Transport: apis, Tracer: cfg.telemetry.tracer(), Meter: cfg.telemetry.meter(),
	}})
	if err != nil {
		return err
	}
	operatorKey, err := readAdminKey(cfg.adminKey)
	if err != nil {
		return err
	}
	s.page, err = admin.New(admin.Config{
		Parts: s.parts, Metrics: cfg.telemetry.metrics, Purge: s.purge, Resolve: s.resolve, Hosts: cfg.hosts, Memory: s.memory, Overview: s.overview, UserHash: s.userHash, Key: operatorKey, Version: buildVersion(),
	})
	if err != nil {
		return err
	}
	s.agents, s.operators = newServer(doors, cfg.log), newServer(s.page, cfg.log)
	s.operators.RegisterOnShutdown(s.page.Close)
	return errors.Join(s.observe(), s.observeAudit())
}

// entraTransport trusts the system's authorities or, where the policy names a
// caFile, those alone.
func entraTransport(cloud policy.Cloud) (http.RoundTripper, error) {
	return newTrusting(func() string { return cloud.CAFile }, func(pem []byte) *http.Transport { return entraTransportWith(onlyRoots(pem)) })
}

func entraTransportWith(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 20 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
	}
}

// newServer bounds what a slow or greedy client can hold.
func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ConnContext:       peer.ConnContext,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		// OPTIONS * is for the guard to refuse, like every target that is no path.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     stdlog.New(serverLog{log}, "", 0),
	}
}

// serverLog is what net/http has to say: mostly that a client has gone, or speaks no
// HTTP.
type serverLog struct{ log *slog.Logger }

func (s serverLog) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, []byte("http: panic serving ")) {
		_, stack, _ := bytes.Cut(line, []byte("\n")) // before it stands what was panicked with: it may be anything
		s.log.Error("a request was not answered: a defect of credfree's", "stack", string(stack), "hint", "report it, with the stack")
	} else {
		s.log.Debug(string(bytes.TrimSpace(line)))
	}
	return len(line), nil
}

func (s *service) open() error {
	agents, err1 := peer.ListenLoopback(s.cfg.listen)
	operators, err2 := peer.ListenLoopback(s.cfg.adminListen)
	s.tcp = [2]net.Listener{agents, operators}
	err3 := s.openSockets(s.rules.Sockets)
	err := errors.Join(err1, err2, err3)
	if err == nil {
		return nil
	}
	var hints []string
	for _, failed := range []struct {
		err  error
		hint string
	}{
		{err1, "name another loopback address for agents with --listen; 127.0.0.1:0 is any free port"},
		{err2, "name another loopback address for operators with --admin-listen; 127.0.0.1:0 is any free port"},
		{err3, "name a folder for the agents' sockets that this user may write to with --socket-dir; it is made if it is not there"},
	} {
		if failed.err != nil {
			hints = append(hints, failed.hint)
		}
	}
	return fail(exitError, err, hints...)
}

func (s *service) closeListeners() error {
	var problems []error
	for _, l := range s.tcp {
		if l != nil {
			problems = append(problems, l.Close())
		}
	}
	for _, l := range s.sockets {
		problems = append(problems, l.Close())
	}
	return errors.Join(problems...)
}

// agentsAddr and adminAddr are where it really listens.
func (s *service) agentsAddr() string { return s.tcp[0].Addr().String() }
func (s *service) adminAddr() string  { return s.tcp[1].Addr().String() }

// accept serves a listener until it is closed.
func (s *service) accept(l net.Listener, server *http.Server) {
	s.serving.Go(func() {
		err := server.Serve(l)
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.fatal(fmt.Errorf("listener %s: %w", l.Addr(), err))
		}
	})
}

// serve answers until ctx ends, then stops in order: no new requests, the
// requests under way, the exchanges, the telemetry.
func (s *service) serve(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s.mu.Lock()
	s.fatal = stop
	s.accept(s.tcp[0], s.agents)
	s.accept(s.tcp[1], s.operators)
	for _, l := range s.sockets {
		s.accept(l, s.agents)
	}
	s.mu.Unlock()
	<-ctx.Done()
	err := context.Cause(ctx)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	// ctx has ended, so stopping gets contexts of its own.
	ended := context.WithoutCancel(ctx)
	err = errors.Join(err, s.drain(ended, s.agents), s.closeCache(ended), s.drain(ended, s.operators))
	s.serving.Wait()
	s.mu.Lock()
	err = errors.Join(err, s.rules.close(nil))
	s.mu.Unlock()
	flushing, cancel := context.WithTimeout(ended, shutdownTime)
	defer cancel()
	if lost := s.cfg.telemetry.shutdown(flushing); lost != nil {
		s.cfg.log.Warn("some telemetry was not exported before the end")
	}
	return err
}

// drain lets the requests under way end, and then cuts the rest: a client that
// has stopped sending must not hold up the end.
func (s *service) drain(ctx context.Context, server *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.cfg.log.Warn("some requests had not ended and were cut off")
		return server.Close()
	}
	return err
}

// closeCache ends the exchanges that nobody waits for any more.
func (s *service) closeCache(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	return errors.Join(s.broker.Close(ctx), s.cache.Close(ctx))
}
