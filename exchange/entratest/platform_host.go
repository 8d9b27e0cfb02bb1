package entratest

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
)

// Loopback serves a handler without TLS on this machine only, the way platforms
// serve their token endpoints.
type Loopback struct {
	// URL is the origin, such as "http://127.0.0.1:41741".
	URL string

	listener *listener
}

// ListenLoopback serves handler at addr, a loopback address; empty means
// 127.0.0.1 and a free port. The caller must Close it.
func ListenLoopback(addr string, handler http.Handler) (*Loopback, error) {
	l, err := listenLoopback(addr, tls.Certificate{})
	if err != nil {
		return nil, fmt.Errorf("entratest: %w", err)
	}
	l.start(handler)
	return &Loopback{URL: "http://" + l.addr, listener: l}, nil
}

// Close stops listening, cuts the connections and waits for the goroutines
// behind them. Requests on the way are cancelled.
func (l *Loopback) Close() error { return l.listener.stop() }

// platformIssuers makes the issuers of cfg.Platforms. The result begins with the
// host's workload issuer.
func (h *Host) platformIssuers(cfg HostConfig) ([]*Issuer, error) {
	h.Issuers = map[Platform]*Issuer{}
	all := []*Issuer{h.Issuer}
	for _, p := range cfg.Platforms {
		spec, err := p.spec()
		if err != nil {
			return nil, fmt.Errorf("entratest: %w", err)
		}
		url := h.IssuerURL + "/" + string(p)
		if strings.HasSuffix(spec.issuer, "/") {
			url += "/"
		}
		// RS256 although the platform may prefer another: Entra takes no other.
		i, err := NewIssuer(IssuerConfig{URL: url, Platform: p, Algorithms: []string{"RS256"}, Now: cfg.Now})
		if err != nil {
			return nil, err
		}
		if h.Issuers[p] != nil {
			return nil, fmt.Errorf("entratest: platform %s is there twice", p)
		}
		h.Issuers[p] = i
		all = append(all, i)
	}
	return all, nil
}

// issuersHandler serves issuers that share an origin. The first is the host's
// own and answers what belongs to none.
type issuersHandler []*Issuer

func (h issuersHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for _, i := range h {
		if r.URL.Path == i.path+discoveryPath || r.URL.Path == i.jwks.Path {
			i.ServeHTTP(w, r)
			return
		}
	}
	h[0].ServeHTTP(w, r)
}
