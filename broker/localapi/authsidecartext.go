package localapi

import (
	"encoding/binary"
	"mime"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// decodeText reads a body as text, by the charset of its type, without the mark of its
// byte order. ok is false for what is no text, or in a charset that is not read here.
func decodeText(body []byte, contentType string) (text string, ok bool) {
	_, parameters, _ := mime.ParseMediaType(contentType) // of a type that cannot be read, there are none
	switch charset := strings.ToLower(parameters["charset"]); charset {
	case "iso-8859-1", "latin1":
		runes := make([]rune, len(body))
		for i, b := range body {
			runes[i] = rune(b)
		}
		return string(runes), true
	case "utf-16", "utf-16le", "utf-16be":
		text, ok = utf16Text(body, charset == "utf-16be")
	default:
		text, ok = string(body), utf8.Valid(body)
	}
	return strings.TrimPrefix(text, "\ufeff"), ok
}

// utf16Text reads UTF-16, whose mark says more than its name.
func utf16Text(body []byte, big bool) (text string, ok bool) {
	if len(body)%2 != 0 {
		return "", false
	}
	if len(body) > 0 && binary.BigEndian.Uint16(body) == 0xfffe {
		big = false
	} else if len(body) > 0 && binary.BigEndian.Uint16(body) == 0xfeff {
		big = true
	}
	units := make([]uint16, len(body)/2)
	for i := range units {
		if units[i] = binary.LittleEndian.Uint16(body[2*i:]); big {
			units[i] = binary.BigEndian.Uint16(body[2*i:])
		}
	}
	text = string(utf16.Decode(units))
	return text, !strings.ContainsRune(text, utf8.RuneError) // half of a pair
}
