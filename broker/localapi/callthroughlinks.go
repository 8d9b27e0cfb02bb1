package localapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// maxLinked bounds what is held back of an answer to look for links.
const maxLinked = 8 << 20

// isLink reports whether a member of an answer in JSON says where to go on: as
// in OData (JSON Format 4.01 §4.5, which puts the name of a property before the @)
// and in the list operations of Azure.
func isLink(member string) bool {
	return member == "nextLink" || member == "@nextLink" || strings.HasSuffix(member, "@odata.nextLink") || strings.HasSuffix(member, "@odata.deltaLink")
}

// askPlainly asks for an answer that can be read, where its links are rewritten.
func (c *call) askPlainly(attempt *http.Request) {
	if c.issued.API.RewriteLinks {
		attempt.Header["Accept-Encoding"] = []string{"identity"}
	}
}

// linkBack makes the links of an answer lead through this door, as the policy
// may ask for: an agent without a token cannot follow them elsewhere. A whole
// answer in JSON alone is read ahead, and all else of it stays byte for byte. One
// that is larger than maxLinked, packed or broken stays as it is.
func (c *call) linkBack(resp *http.Response) error {
	if !c.issued.API.RewriteLinks || resp.StatusCode != http.StatusOK || c.in.Method == http.MethodHead ||
		len(resp.Header["Content-Encoding"]) > 0 || len(resp.Trailer) > 0 || resp.ContentLength > maxLinked || !isJSON(resp.Header.Get("Content-Type")) {
		return nil
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxLinked+1))
	if err != nil {
		return err
	}
	if len(head) > maxLinked {
		resp.Body = &restOf{Reader: io.MultiReader(bytes.NewReader(head), resp.Body), Closer: resp.Body}
		return nil
	}
	// All of it is read, and so its connection is free.
	if err := resp.Body.Close(); err != nil {
		return err
	}
	linked, changed := rewriteLinks(head, func(link string) string { return localOf(c.issued.API, c.target, c.here(), link) })
	resp.Body, resp.ContentLength, resp.TransferEncoding = io.NopCloser(bytes.NewReader(linked)), int64(len(linked)), nil
	resp.Header.Set("Content-Length", strconv.Itoa(len(linked)))
	if !changed {
		return nil
	}
	for _, name := range []string{"Content-Md5", "Digest", "Content-Digest", "Repr-Digest"} {
		delete(resp.Header, name) // of other bytes
	}
	if etag := resp.Header.Get("Etag"); strings.HasPrefix(etag, `"`) {
		resp.Header.Set("Etag", "W/"+etag) // RFC 9110 §8.8.1: the same, but not byte for byte
	}
	return nil
}

// restOf is a body whose beginning was read ahead.
type restOf struct {
	io.Reader
	io.Closer
}

// isJSON reports whether a body is one JSON text, not a stream of them.
func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json") && kind != "application/stream+json")
}

// rewriteLinks replaces the absolute links in a JSON text by what to says of
// them. changed is false, and the text the same, when there is none that to
// replaces, or when the text is no JSON.
func rewriteLinks(text []byte, to func(link string) string) (rewritten []byte, changed bool) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var out []byte
	var nesting []bool // of the values that are open: whether it is an object
	var member string  // whose value comes next, in an object
	copied, isName := 0, false
	for {
		before := int(dec.InputOffset())
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return text, false
		}
		after := int(dec.InputOffset())
		inObject := len(nesting) > 0 && nesting[len(nesting)-1]
		switch value := token.(type) {
		case json.Delim:
			if value == '{' || value == '[' {
				nesting = append(nesting, value == '{')
				isName = value == '{'
				continue
			}
			nesting = nesting[:len(nesting)-1]
		case string:
			if inObject && isName {
				member, isName = value, false
				continue
			}
			if inObject && isLink(member) && isAbsolute(value) {
				if link := to(value); link != value {
					start := before + bytes.IndexByte(text[before:after], '"')
					out = appendString(append(out, text[copied:start]...), link)
					copied = after
				}
			}
		}
		isName = len(nesting) > 0 && nesting[len(nesting)-1] // what follows a value of an object
	}
	if copied == 0 || len(nesting) > 0 {
		return text, false
	}
	return append(out, text[copied:]...), true
}

func isAbsolute(link string) bool {
	return len(link) >= 8 && (strings.EqualFold(link[:8], "https://") || strings.EqualFold(link[:7], "http://"))
}

// appendString appends a JSON string, with & as it is.
func appendString(b []byte, s string) []byte {
	var quoted bytes.Buffer
	enc := json.NewEncoder(&quoted)
	enc.SetEscapeHTML(false)
	if enc.Encode(s) != nil {
		return b // strings always are JSON
	}
	return append(b, bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))...)
}
