package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What libraries log by themselves may be a peer's words, or a collector's
// credentials: it is told that they did, and no more.
func TestWordsOfLibrariesAreWithheld(t *testing.T) {
	defer log.SetOutput(os.Stderr)
	const credential = "COLLECTOR-CREDENTIAL"
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization: Bearer "+credential)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=Basic "+credential+"%zz")
	var got bytes.Buffer
	telemetry, err := newTelemetry(t.Context(), slog.New(slog.NewTextHandler(&got, nil)))
	check(t, err)
	log.Printf("Unsolicited response received on idle HTTP channel starting with %q", "you sent: Bearer "+credential)
	if strings.Contains(got.String(), credential) || !strings.Contains(got.String(), "OTEL_*") || !strings.Contains(got.String(), "a library has logged something") {
		t.Errorf("got %s", got.String())
	}
	check(t, telemetry.shutdown(t.Context()))
}

// Exports that fail are counted by what they are of, and a sampler that is not
// understood is no export that failed.
func TestExportFailuresAreOfTheirSignal(t *testing.T) {
	c := newCollector(t, http.StatusBadRequest)
	for signal, variables := range map[string][]string{
		"logs":   {"OTEL_LOGS_EXPORTER", "otlp", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", c.URL + "/v1/logs", "OTEL_BLRP_SCHEDULE_DELAY", "10"},
		"traces": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.URL + "/v1/traces", "OTEL_BSP_SCHEDULE_DELAY", "10"},
		"none":   {"OTEL_TRACES_SAMPLER", "sometimes"},
	} {
		t.Run(signal, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
			for i := 0; i < len(variables); i += 2 {
				t.Setenv(variables[i], variables[i+1])
			}
			r := startService(t, func(string) string { return anyProcess() })
			r.token(t, graphScope)
			counted := func(of string) bool {
				text := r.scrape(t)
				_, count, _ := strings.Cut(text, `credfree_telemetry_export_failures_total{signal="`+of+`"} `)
				return !strings.HasPrefix(count, "0\n")
			}
			for deadline := time.Now().Add(10 * time.Second); signal != "none" && !counted(signal); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the failure is not counted")
				}
			}
			for _, other := range []string{"traces", "metrics", "logs"} {
				if other != signal && counted(other) {
					t.Errorf("it is counted as one of %s", other)
				}
			}
		})
	}
}

func TestSamplersAreUnderstood(t *testing.T) {
	for variables, want := range map[[2]string]string{
		{"", ""}: "always_on", {"always_off", ""}: "always_off", {"traceidratio", "0.01"}: "traceidratio 0.01", {"traceidratio", ""}: "traceidratio",
		{"sometimes", ""}: "", {"traceidratio", "many"}: "", {"parentbased_traceidratio", "2"}: "", {"traceidratio", "-1"}: "", {"traceidratio", "NaN"}: "",
	} {
		t.Setenv("OTEL_TRACES_SAMPLER", variables[0])
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", variables[1])
		if got, ok := samplerFromEnv(); ok != (want != "") || ok && got != want {
			t.Errorf("%q: got %q, %t, want %q", variables, got, ok, want)
		}
	}
}

func TestWhyAnExportFailed(t *testing.T) {
	_, refused := net.Dial("tcp", "127.0.0.1:1") //nolint:noctx // it fails at once
	for want, err := range map[string]error{
		"nothing listens there":                      fmt.Errorf("https://user:secret@x: %w", refused),
		"the collector takes too long":               fmt.Errorf("secret: %w", context.DeadlineExceeded),
		"the collector's certificate is not trusted": fmt.Errorf("secret: %w", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}),
		"the collector answers Unauthenticated":      status.Error(codes.Unauthenticated, "secret"),
		"the collector does not take it":             errors.New("401: secret"),
		"the collector's name cannot be resolved":    &net.DNSError{Name: "secret"},
		"what listens there does not speak TLS":      fmt.Errorf("x: %w", tls.RecordHeaderError{Msg: "secret"}),
	} {
		if got := whyNot(err); got != want {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
}
