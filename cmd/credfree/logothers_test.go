package main

import (
	"bytes"
	"log"
	"log/slog"
	"os"
	"strings"
	"testing"
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
