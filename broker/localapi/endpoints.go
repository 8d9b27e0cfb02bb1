package localapi

import (
	"net/url"

	"github.com/credfree/credfree/broker/client"
)

// What a handler that stands before the doors, and asks for a key of its own,
// has to know of them.

// IsDocument reports whether a document is read at u that is the same for
// everybody and holds no secret: clients send no key for one (RFC 8414 §3.1).
func IsDocument(u *url.URL) bool {
	path := plainPath(u.Path)
	return u.RawPath == "" && (path == metadataPath || path == openIDMetadataPath || equalWord(path, openAPIPath))
}

// TakesClientSecret reports whether u is an endpoint to which OAuth clients can
// send their client_secret in the form (RFC 6749 §2.3.1, RFC 7662 §2.1).
func TakesClientSecret(u *url.URL) bool {
	path := plainPath(u.Path)
	return u.RawPath == "" && (path == client.TokenPath || path == introspectionPath || entraTenant(path) != "")
}
