package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

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
