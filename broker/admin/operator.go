package admin

import (
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/credfree/credfree/broker/peer"
)

// isOperator says whether the request comes from somebody who may see who asked
// for whom: the broker's own user, root, or a peer with the operator key. It
// denies whom the kernel does not vouch for and who presents no key.
func (h *Handler) isOperator(r *http.Request) bool {
	p, err := peer.FromContext(r.Context())
	if err == nil && p.Known && (int64(p.UID) == int64(os.Geteuid()) || p.UID == 0) {
		return true
	}
	if h.cfg.Key == nil {
		return false
	}
	if key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		_, ok := h.cfg.Key.Match(key)
		return ok
	}
	for _, cookie := range r.CookiesNamed(cookieName(r)) {
		if h.sessions.holds(cookie.Value, h.session(p, time.Now())) {
			return true
		}
	}
	return false
}

// session is who has logged in: the peer, with the key as it is now. A cookie
// is sent to every port of a host, and so perhaps to an agent: with another uid
// it opens nothing.
func (h *Handler) session(p peer.Peer, now time.Time) session {
	return session{uid: p.UID, known: p.Known, key: h.cfg.Key.Stamp(), now: now}
}

type session struct {
	uid   uint32
	known bool
	key   [32]byte
	now   time.Time
}

const (
	sessionTime = 12 * time.Hour
	maxSessions = 64
)

// sessions are the cookies that were handed out for the operator key.
type sessions struct {
	mu   sync.Mutex // guards held
	held map[string]session
}

func newSessions() *sessions { return &sessions{held: map[string]session{}} }

// begin returns a cookie's value. When there are too many, the oldest ends.
func (s *sessions) begin(of session) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) >= maxSessions {
		oldest := ""
		for value, held := range s.held {
			if oldest == "" || held.now.Before(s.held[oldest].now) {
				oldest = value
			}
		}
		delete(s.held, oldest)
	}
	value := rand.Text()
	s.held[value] = of
	return value
}

// holds compares with all of them, so that the time tells nothing.
func (s *sessions) holds(value string, as session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ok := false
	for held, of := range s.held {
		if subtle.ConstantTimeCompare([]byte(held), []byte(value)) == 1 {
			ok = of.uid == as.uid && of.known == as.known && of.key == as.key && as.now.Sub(of.now) < sessionTime
		}
	}
	return ok
}

func (s *sessions) end(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, value)
}

// cookieName has the port in it: brokers of several pods, forwarded to ports of
// one machine, share its cookies.
func cookieName(r *http.Request) string {
	_, port, _ := strings.Cut(strings.TrimPrefix(r.Host, "[::1]"), ":")
	return "credfree_operator_" + port
}

// logIn exchanges the operator key for a cookie.
func (h *Handler) logIn(w http.ResponseWriter, r *http.Request) {
	if !h.readForm(w, r) {
		return
	}
	if h.cfg.Key == nil {
		h.refuse(w, r)
		return
	}
	if _, ok := h.cfg.Key.Match(r.PostForm.Get("key")); !ok {
		h.show(w, r, http.StatusForbidden, "login", view{Title: "Operator key", Content: loginView{Wrong: true, Offered: true}})
		return
	}
	p, err := peer.FromContext(r.Context())
	if err != nil { // then p says that the kernel does not know who it is
		p.Known = false
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // plain http on loopback: Secure would keep it from being sent
		Name: cookieName(r), Value: h.sessions.begin(h.session(p, time.Now())), Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// logOut ends the session of the cookie.
func (h *Handler) logOut(w http.ResponseWriter, r *http.Request) {
	for _, cookie := range r.CookiesNamed(cookieName(r)) {
		h.sessions.end(cookie.Value)
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName(r), Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode}) //nolint:gosec // see logIn
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
