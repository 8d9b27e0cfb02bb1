package entratest

import "net/http"

// interactive answers where users sign in. There are no pages here, but agents
// and their blueprints are told that they never get one.
func (s *Server) interactive(r *http.Request, tenantName string, rec *Request) reply {
	t, err := s.findTenant(tenantName, rec)
	if err != nil {
		return s.refused(err, rec)
	}
	id := r.URL.Query().Get("client_id")
	if r.Method == http.MethodPost {
		if form, err := readForm(r); err == nil {
			id = form.Get("client_id")
		}
	}
	rec.ClientID = recordable(id)
	c, err := t.client(id)
	if err != nil {
		return s.refused(err, rec)
	}
	if c.kind == ordinaryClient {
		return notFound()
	}
	return s.refused(refuse(82014, c.ClientID), rec)
}
