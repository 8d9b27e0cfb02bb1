package entratest

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
)

// answerHeaders are those of every answer with a JSON document.
func (s *Server) answerHeaders(rec *Request) http.Header {
	return http.Header{
		"Cache-Control":    {"no-store, no-cache"},
		"Pragma":           {"no-cache"},
		"Expires":          {"-1"},
		"Content-Type":     {"application/json; charset=utf-8"},
		"X-Ms-Request-Id":  {rec.TraceID},
		"X-Ms-Ests-Server": {"2.1.99999.1 - EMULATOR ProdSlices"},
		"Set-Cookie": {
			"fpc=" + randomText(18) + "; path=/; secure; HttpOnly; SameSite=None",
			"x-ms-gateway-slice=estsfd; path=/; secure; samesite=none; httponly",
			"stsservicecookie=estsfd; path=/; secure; samesite=none; httponly",
		},
		"Client-Request-Id": {rec.CorrelationID}, // only kept when the client asked for it
	}
}

// setCommonHeaders adds what every answer has, and drops what this client did
// not ask for.
func (s *Server) setCommonHeaders(h http.Header, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Return-Client-Request-Id"), "true") {
		h.Del("Client-Request-Id")
	}
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Xss-Protection", "0")
	h.Set("P3p", `CP="DSP CUR OTPi IND OTRi ONL FIN"`)
	// Set here because net/http would use its own clock.
	h.Set("Date", s.now().UTC().Format(http.TimeFormat))
}

// randomText is n random bytes as URL-safe text.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, by its documentation
	return base64.RawURLEncoding.EncodeToString(b)
}
