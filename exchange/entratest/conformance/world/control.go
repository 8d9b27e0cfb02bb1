package world

import (
	"encoding/json"
	"io"
	"net/http"

	"github.com/credfree/credfree/exchange/entratest"
)

// controlHandler serves what clients need while they run:
//
//	GET  /rows        the failures of the table, with fresh tokens
//	GET  /count       how many token requests there were so far
//	GET  /user-token  a fresh token of the user, for ?audience=
//	POST /behavior    an entratest.Behavior in JSON
func (w *World) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rows", func(rw http.ResponseWriter, _ *http.Request) {
		rows, err := w.Rows()
		answer(rw, rows, err)
	})
	mux.HandleFunc("GET /count", func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, map[string]int{"count": w.host.Server.TokenRequests()}, nil)
	})
	mux.HandleFunc("GET /user-token", func(rw http.ResponseWriter, r *http.Request) {
		audience := r.URL.Query().Get("audience")
		if audience == "" {
			audience = w.Client
		}
		token, err := w.MintUserToken(audience)
		answer(rw, map[string]string{"token": token}, err)
	})
	mux.HandleFunc("POST /behavior", func(rw http.ResponseWriter, r *http.Request) {
		var b entratest.Behavior
		body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, 1<<20))
		if err == nil {
			err = json.Unmarshal(body, &b)
		}
		if err == nil {
			w.host.Server.SetBehavior(b)
		}
		answer(rw, struct{}{}, err)
	})
	return mux
}

func answer(rw http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(v) // the client may be gone
}
