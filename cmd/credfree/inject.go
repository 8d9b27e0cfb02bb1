package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/credfree/credfree/broker/inject"
)

func injectCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "inject",
		Usage: "run the admission webhook that puts the broker beside pods, until SIGTERM",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "`FILE` of what all pods get, in JSON", EnvVars: []string{"CREDFREE_INJECT_CONFIG"}},
			&cli.StringFlag{Name: "tls-cert", Usage: "`FILE` of the webhook's certificate; read again when it changes", EnvVars: []string{"CREDFREE_INJECT_TLS_CERT"}},
			&cli.StringFlag{Name: "tls-key", Usage: "`FILE` of its key", EnvVars: []string{"CREDFREE_INJECT_TLS_KEY"}},
			&cli.StringFlag{Name: "listen", Usage: "`ADDRESS` for the API server", Value: ":8443", EnvVars: []string{"CREDFREE_INJECT_LISTEN"}},
			&cli.StringFlag{Name: "health-listen", Usage: "`ADDRESS` for probes and metrics, without TLS", Value: ":8081", EnvVars: []string{"CREDFREE_INJECT_HEALTH_LISTEN"}},
			&cli.DurationFlag{Name: "linger", Usage: "how long to serve on, not ready, before the end: the API server needs a moment to notice", Value: 5 * time.Second},
		}, logFlags()...),
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c, "config", "tls-cert", "tls-key"); err != nil {
				return err
			}
			return printed(std.err, runWebhook(c, std))
		},
	}
}

// webhook is a running injector.
type webhook struct {
	log         *slog.Logger
	certificate *inject.Certificate
	pods, tools *http.Server
	podsAt      net.Listener
	toolsAt     net.Listener
	ending      atomic.Bool
	linger      time.Duration
}

func runWebhook(c *cli.Context, std stdio) error {
	var cfg inject.Config
	if err := unlessInterrupted(c.Context, func() (err error) {
		cfg, err = readInjectConfig(c.String("config"))
		return err
	}); err != nil {
		return err
	}
	level, err := logLevel(c)
	if err != nil {
		return err
	}
	log, flush := newLogger(std.err, level)
	defer flush()
	outlivePipes()
	telemetry, err := newTelemetry(c.Context, log)
	if err != nil {
		return err
	}
	w := &webhook{log: log, linger: c.Duration("linger")}
	if w.certificate, err = inject.LoadCertificate(c.String("tls-cert"), c.String("tls-key")); err != nil {
		return fail(exitError, err, "name a certificate and the key that belongs to it, in PEM, with --tls-cert and --tls-key")
	}
	if err := w.assemble(cfg, telemetry); err != nil {
		return err
	}
	if err := w.listen(c.Context, c.String("listen"), c.String("health-listen")); err != nil {
		return err
	}
	err = w.serve(c.Context)
	flushing, cancel := context.WithTimeout(context.WithoutCancel(c.Context), shutdownTime)
	defer cancel()
	if lost := telemetry.shutdown(flushing); lost != nil {
		log.Warn("some telemetry was not exported before the end")
	}
	return err
}

func readInjectConfig(path string) (inject.Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return inject.Config{}, fail(exitError, err, "the chart makes this file")
	}
	cfg, err := inject.ParseConfig(text)
	if err != nil {
		return inject.Config{}, fail(exitError, fmt.Errorf("%s: %w", path, err), "the chart makes this file; the fields are those of inject.Config: go doc github.com/credfree/credfree/broker/inject.Config")
	}
	return cfg, nil
}

func (w *webhook) assemble(cfg inject.Config, telemetry *telemetry) error {
	injector, err := inject.New(cfg)
	if err != nil {
		return fail(exitError, err)
	}
	observe, err := w.instruments(telemetry.meter())
	if err != nil {
		return err
	}
	handlerConfig := inject.HandlerConfig{Injector: injector, Log: w.log, Observe: observe}
	if cfg.ServiceAccounts {
		cluster, err := inject.NewCluster(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"), inject.ServiceAccountFolder)
		if err != nil {
			return fail(exitError, err, "serviceAccounts needs a pod with a service account that may get service accounts")
		}
		handlerConfig.Account = cluster.Account
	}
	pods, err := inject.NewHandler(handlerConfig)
	if err != nil {
		return err
	}
	tools := http.NewServeMux()
	tools.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("ok\n")) }) // a reader that is gone is its own fault
	tools.HandleFunc("GET /readyz", w.ready)
	tools.Handle("GET /metrics", telemetry.metrics)
	w.pods, w.tools = newServer(pods, w.log), newServer(tools, w.log)
	w.pods.WriteTimeout = 15 * time.Second // of the API server's patience 10 s are asked for
	w.pods.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: w.certificate.Get}
	return nil
}

// instruments counts admissions, and shows when the certificate ends.
func (w *webhook) instruments(meter metric.Meter) (func(context.Context, inject.Outcome), error) {
	admissions, err1 := meter.Int64Counter("credfree.webhook.admissions", metric.WithUnit("{admission}"),
		metric.WithDescription("Pods that the webhook was asked about, by outcome."))
	_, err2 := meter.Float64ObservableGauge("credfree.webhook.certificate.expires_in", metric.WithUnit("s"),
		metric.WithDescription("How long the webhook's certificate is still good for."),
		metric.WithFloat64Callback(func(_ context.Context, observer metric.Float64Observer) error {
			expiry, _ := w.certificate.Expiry() // what is wrong with newer files is in /readyz
			observer.Observe(time.Until(expiry).Seconds())
			return nil
		}))
	return func(ctx context.Context, outcome inject.Outcome) {
		admissions.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", string(outcome))))
	}, errors.Join(err1, err2)
}

// ready says no when pods could not be admitted any more.
func (w *webhook) ready(rw http.ResponseWriter, _ *http.Request) {
	expiry, broken := w.certificate.Expiry()
	state := struct {
		Ready   bool      `json:"ready"`
		Expires time.Time `json:"certificate_expires"`
		Error   string    `json:"error,omitempty"`
	}{Ready: time.Now().Before(expiry) && !w.ending.Load(), Expires: expiry.UTC()}
	if broken != nil {
		state.Error = broken.Error()
	}
	rw.Header().Set("Content-Type", "application/json")
	if !state.Ready {
		rw.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(rw).Encode(state) // a reader that is gone is its own fault
}

func (w *webhook) listen(ctx context.Context, pods, tools string) error {
	var listening net.ListenConfig
	var err error
	if w.podsAt, err = listening.Listen(ctx, "tcp", pods); err != nil {
		return fail(exitError, err, "name another address with --listen")
	}
	if w.toolsAt, err = listening.Listen(ctx, "tcp", tools); err != nil {
		return fail(exitError, errors.Join(err, w.podsAt.Close()), "name another address with --health-listen")
	}
	return nil
}

// serve answers until ctx ends, then a moment longer.
func (w *webhook) serve(ctx context.Context) error {
	ended := make(chan error, 2)
	go func() { ended <- w.pods.ServeTLS(w.podsAt, "", "") }()
	go func() { ended <- w.tools.Serve(w.toolsAt) }()
	expiry, _ := w.certificate.Expiry() // it was just loaded
	w.log.Info("ready", "pods", w.podsAt.Addr().String(), "health", w.toolsAt.Addr().String(), "certificate_expires", expiry.UTC(), "version", buildVersion())
	running := 2
	var err error
	select {
	case err = <-ended:
		err, running = fmt.Errorf("listener: %w", err), 1
	case <-ctx.Done():
		w.ending.Store(true)
		time.Sleep(w.linger)
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	for _, server := range []*http.Server{w.pods, w.tools} {
		if server.Shutdown(stopping) != nil {
			w.log.Warn("some requests had not ended and were cut off")
			err = errors.Join(err, server.Close())
		}
	}
	for range running {
		if one := <-ended; !errors.Is(one, http.ErrServerClosed) {
			err = errors.Join(err, one)
		}
	}
	return err
}
