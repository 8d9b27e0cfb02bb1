package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// whyNot is why an export failed, in words of our own: an error's may hold what was
// sent, or a collector's credentials.
func whyNot(err error) string {
	var certificate *tls.CertificateVerificationError
	var notTLS tls.RecordHeaderError
	var name *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "the collector takes too long"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there"
	case errors.As(err, &certificate):
		return "the collector's certificate is not trusted"
	case errors.As(err, &notTLS):
		return "what listens there does not speak TLS"
	case errors.As(err, &name):
		return "the collector's name cannot be resolved"
	}
	if code := status.Code(err); code != codes.Unknown {
		return "the collector answers " + code.String()
	}
	return "the collector does not take it"
}
