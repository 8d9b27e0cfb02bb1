package admin

import (
	"bytes"
	"crypto/subtle"
	"embed"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/credfree/credfree/broker/recent"
)

//go:embed page
var files embed.FS

// pages are the templates, each with what all pages have around it. They take most
// of a megabyte, and are made when somebody looks.
var pages = sync.OnceValue(func() map[string]*template.Template {
	all := map[string]*template.Template{}
	for _, name := range []string{"issuances", "issuance", "agents", "health", "policy", "purge", "login", "message"} {
		all[name] = template.Must(template.New("layout.html").Funcs(words).ParseFS(files, "page/layout.html", "page/row.html", "page/bars.html", "page/"+name+".html"))
	}
	return all
})

// security keeps a page from loading anything that is not this listener's, and
// from being shown inside another.
const security = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// view is what a page is made of.
type view struct {
	Title   string
	Here    string // path of the page in the navigation
	Open    bool   // to an operator; else the navigation leads nowhere
	Session bool   // begun with the operator key
	Ready   bool
	Version string
	Held    recent.Held
	Most    int // issuances that are remembered
	FormKey string
	Content any
}

// routePages adds what people look at. All but the style is for operators.
func (h *Handler) routePages() {
	for path, name := range map[string]string{"/page.css": "page/page.css", "/page.js": "page/page.js"} {
		h.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Content-Type-Options", "nosniff")
			http.ServeFileFS(w, r, files, name)
		})
	}
	h.mux.HandleFunc("POST /login", h.logIn)
	h.mux.HandleFunc("POST /logout", h.logOut)
	for pattern, serve := range map[string]http.HandlerFunc{
		"GET /{$}": h.issuancesPage, "GET /agents": h.agentsPage, "GET /health": h.healthPage, "GET /policy": h.policyPage,
		"GET " + PurgePath + "/confirm": h.askPurge, "POST " + PurgePath + "/confirm": h.confirmedPurge,
		"GET " + IssuancesPath: h.list, "GET " + IssuancesPath + "/{id}": h.one, "GET " + EventsPath: h.events, "GET " + statePath: h.showState,
	} {
		h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !h.isOperator(r) {
				h.refuse(w, r)
				return
			}
			serve(w, r)
		})
	}
}

// refuse answers whoever is no operator: programs in JSON, people with a form
// for the operator key, if there is one.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request) {
	if wantsPage(r) || r.URL.Path == "/" {
		h.show(w, r, http.StatusForbidden, "login", view{Title: "Operators only", Content: loginView{Offered: h.cfg.Key != nil}})
		return
	}
	writeJSON(w, http.StatusForbidden, h.operatorsOnly())
}

func (h *Handler) operatorsOnly() Problem {
	hint := "ask as one of them; with --admin-key-file, serve also takes an operator key"
	if h.cfg.Key != nil {
		hint = "present the operator key: with Authorization: Bearer, or with --admin-key-file of credfree watch, traces and purge"
	}
	return Problem{"this is for the broker's own user and for root", hint}
}

// wantsPage: browsers ask for HTML by name, programs do not.
func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// show renders a page, completely or not at all.
func (h *Handler) show(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	v.Version, v.Most, v.FormKey = h.cfg.Version, recent.MaxIssuances, h.formKey
	if v.Open {
		v.Held, v.Ready = h.cfg.Memory.Held(), h.state(r.Context()).Ready
		v.Session = len(r.CookiesNamed(cookieName(r))) > 0
	} else {
		v.FormKey = "" // it is for those who may use it
	}
	header := w.Header()
	header.Set("Content-Security-Policy", security)
	header.Set("Referrer-Policy", "same-origin") // with none, browsers hide the origin of forms
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Vary", "Accept")
	var body bytes.Buffer
	if err := pages()[name].Execute(&body, v); err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	header.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // a reader that is gone is its own fault
}

// message shows one sentence and what to do about it.
func (h *Handler) message(w http.ResponseWriter, r *http.Request, status int, title, text, hint string) {
	h.show(w, r, status, "message", view{Title: title, Open: true, Content: messageView{text, hint}})
}

type (
	messageView struct{ Text, Hint string }
	loginView   struct{ Wrong, Offered bool }
)

// readForm reads a form of a few fields.
func (h *Handler) readForm(w http.ResponseWriter, r *http.Request) bool {
	r.Body = http.MaxBytesReader(w, r.Body, maxPurgeBytes)
	if err := r.ParseForm(); err != nil {
		h.show(w, r, http.StatusBadRequest, "login", view{Title: "The form cannot be read", Content: loginView{Offered: h.cfg.Key != nil}})
		return false
	}
	return true
}

// ours says whether a form is from a page that this process made for an
// operator: a foreign page that makes a browser send one does not know the key.
func (h *Handler) ours(r *http.Request) bool {
	return subtle.ConstantTimeCompare([]byte(r.PostForm.Get("form_key")), []byte(h.formKey)) == 1
}

// rowOf is one row of the list of issuances, for pages that are open.
func rowOf(i *recent.Issuance) ([]byte, error) {
	var row bytes.Buffer
	err := pages()["issuances"].ExecuteTemplate(&row, "row", i)
	return row.Bytes(), err
}

// words are the functions of the templates.
var words = template.FuncMap{
	"utc":      func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"clock":    func(t time.Time) string { return t.UTC().Format("15:04:05") },
	"stamp":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"ago":      func(t time.Time) string { return ago(time.Since(t)) },
	"dur":      duration,
	"person":   person,
	"join":     func(list []string) string { return strings.Join(list, ", ") },
	"decision": decision,
	"spaced":   func(word string) string { return strings.ReplaceAll(word, "_", " ") },
	"bytes":    size,
}

// mark is how a decision looks: never by its colour alone.
type mark struct{ Sign, Word, Class string }

func decision(i *recent.Issuance) mark {
	if i.Inspected() {
		return mark{"i", "inspected", "inspect"}
	}
	return marks[i.Decision]
}

var marks = map[string]mark{
	recent.Allow: {"✓", "allowed", "allow"},
	recent.Deny:  {"✕", "denied", "deny"},
	recent.Fail:  {"!", "failed", "fail"},
}
