package localapi

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxFormBytes bounds a request. The largest thing in it is a user's token: one
// that lists many groups has some 30 KiB.
const maxFormBytes = 64 << 10

// form is the parameters of a request. There are few, so they are a list.
type form []parameter

// formRoom is how many parameters the largest of usual requests has.
const formRoom = 8

type parameter struct{ name, value string }

// get returns the value of a parameter, or its first; "" when it is absent.
func (f form) get(name string) string {
	for _, p := range f {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// readForm reads the parameters from the body alone: what is in a URL ends in
// logs. A parameter given twice is refused, as RFC 6749 §3.2 demands, but for
// those that a later RFC makes a list of. They are appended to room.
func readForm(r *http.Request, room form, lists ...string) (form, *badRequest) {
	if r.URL.RawQuery != "" {
		return nil, bad("parameters stand in the URL", "send them in the body: what is in a URL ends up in logs")
	}
	if contentType := r.Header.Get("Content-Type"); contentType != "application/x-www-form-urlencoded" {
		if mediaType, _, err := mime.ParseMediaType(contentType); err != nil || mediaType != "application/x-www-form-urlencoded" {
			return nil, &badRequest{status: http.StatusUnsupportedMediaType, reason: reasonBadRequest, message: "the body is not a form", hint: "send Content-Type: application/x-www-form-urlencoded"}
		}
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, &badRequest{status: http.StatusUnsupportedMediaType, reason: reasonBadRequest, message: "the body is compressed", hint: "send the form as it is, without Content-Encoding"}
	}
	body, problem := readBody(r)
	if problem != nil {
		return nil, problem
	}
	return parseForm(body, room, lists...)
}

// parseForm reads the parameters of a form, or of a query: they are encoded in
// the same way.
func parseForm(text string, f form, lists ...string) (form, *badRequest) {
	for text != "" {
		var pair string
		pair, text, _ = strings.Cut(text, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err1 := decode(name)
		value, err2 := decode(value)
		if err1 != nil || err2 != nil {
			return nil, bad("a parameter has a broken percent-encoding", "encode parameters as application/x-www-form-urlencoded")
		}
		for _, p := range f {
			if p.name == name && !slices.Contains(lists, name) {
				return nil, bad("a parameter is given twice", "give each parameter once")
			}
		}
		if len(f) == 64 {
			return nil, bad("there are too many parameters", "send only those of the token request")
		}
		f = append(f, parameter{name, value})
	}
	return f, nil
}

func decode(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, nil
	}
	return url.QueryUnescape(s)
}

func readBody(r *http.Request) (string, *badRequest) {
	if r.ContentLength > maxFormBytes {
		return "", tooLarge(r)
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	b := (*buffer)[:0]
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		*buffer = b
		if len(b) > maxFormBytes {
			return "", tooLarge(r)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", bad("the request was cut off", "send the whole body")
		}
	}
	body := string(b)
	clear(b) // it may hold a key
	return body, nil
}

// tooLarge reads on for a while: a client that is still writing when the
// connection closes sees a reset instead of the answer.
func tooLarge(r *http.Request) *badRequest {
	const most = 4 << 20
	// Whatever ends it, the answer is the same.
	_, _ = io.CopyN(io.Discard, r.Body, most)
	return &badRequest{status: http.StatusRequestEntityTooLarge, reason: reasonBadRequest, message: "the request is larger than 64 KiB", hint: "send only the parameters of the token request"}
}
