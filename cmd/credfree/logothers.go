package main

import (
	stdlog "log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
)

// quietOthers has libraries say no more than that they have something to say: their
// words may be those of a peer (net/http logs what comes unasked for), or hold the
// credentials of a collector (the OpenTelemetry SDK logs headers that it cannot read).
// Like the error handler, both loggers are the process's.
func quietOthers(log *slog.Logger) {
	stdlog.SetFlags(0)
	stdlog.SetOutput(withheld{log})
	otel.SetLogger(logr.New(sdkLog{log}))
}

// withheld is where the standard library's logger writes to.
type withheld struct{ log *slog.Logger }

func (w withheld) Write(line []byte) (int, error) {
	w.log.Warn("a library has logged something, which is not shown: it may be what a peer has sent")
	return len(line), nil
}

// sdkLog is the logger of the OpenTelemetry SDK. Its messages are fixed, and the rest
// of what it is told is not.
type sdkLog struct{ log *slog.Logger }

var _ logr.LogSink = sdkLog{}

func (sdkLog) Init(logr.RuntimeInfo)              {}
func (sdkLog) Enabled(level int) bool             { return level <= 1 } // errors and warnings
func (s sdkLog) WithValues(...any) logr.LogSink   { return s }
func (s sdkLog) WithName(string) logr.LogSink     { return s }
func (s sdkLog) Info(_ int, msg string, _ ...any) { s.tell(msg) }

func (s sdkLog) Error(_ error, msg string, _ ...any) { s.tell(msg) }

func (s sdkLog) tell(msg string) {
	s.log.Warn("OpenTelemetry: "+msg, "hint", "look at the OTEL_* variables; their values are not shown")
}

// outlivePipes keeps the process when whoever read its standard output or error has
// gone: what is written there fails then, and the broker says what that means. The
// signal is caught rather than ignored, for commands that are started inherit the latter.
func outlivePipes() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
