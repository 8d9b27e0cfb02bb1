package localapi

import (
	"net/http"
	"net/url"
	"strings"
)

// credentials reads how the client presents itself: by Basic, by form, by
// Bearer, by the header of managed identity clients, or not at all. RFC 6749
// §2.3 allows one way at a time.
func credentials(r *http.Request, form form) (agent, key string, problem *badRequest) {
	agent, key = form.get("client_id"), form.get("client_secret")
	ways := 0
	if key != "" {
		ways++
	}
	if presented := r.Header["X-Identity-Header"]; len(presented) > 0 {
		key = presented[0]
		ways += len(presented)
	}
	if authorization := r.Header["Authorization"]; len(authorization) > 1 {
		ways += len(authorization)
	} else if len(authorization) == 1 {
		scheme, rest, _ := strings.Cut(authorization[0], " ")
		switch {
		case strings.EqualFold(scheme, "Bearer"):
			key = strings.TrimSpace(rest)
			ways++
		case strings.EqualFold(scheme, "Basic"):
			user, password, ok := r.BasicAuth()
			if !ok {
				return "", "", bad("the Authorization header is not Basic authentication", "encode client_id:client_secret in base64")
			}
			user, password = unescape(user), unescape(password)
			if agent != "" && agent != user {
				return "", "", bad("client_id differs between header and form", "send it once")
			}
			agent = user
			if password != "" {
				key = password
				ways++
			}
		default:
			return "", "", bad("the Authorization scheme is not supported", "use Basic or Bearer, or none where the kernel vouches for the caller")
		}
	}
	if ways > 1 {
		return "", "", bad("the client authenticates in more than one way", "present the key once")
	}
	return agent, key, nil
}

// unescape undoes the form encoding inside Basic credentials (RFC 6749 §2.3.1).
// Clients that do not encode are met half-way: keys in base64 have a plus, which
// clients that do encode write as %2B, so a plus is no space here.
func unescape(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}
