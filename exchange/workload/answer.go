package workload

import (
	"encoding/json"
	"strconv"
	"strings"
)

// tokenIn finds the workload token in what a program printed or a server
// answered: the token alone, or a JSON document that has it. A pointer
// (RFC 6901) says where in the document; without one, the forms that platforms
// use are known: {"token": …}, {"value": …}, {"id_token": …}, AWS's
// {"WebIdentityToken": …}, a Kubernetes object's status.token, a JSON string, and
// Google's executable source. who begins the messages. The error is an *Error
// and holds nothing of what was found.
func tokenIn(who string, data []byte, pointer string) (string, error) {
	text := strings.TrimSpace(string(data))
	switch {
	case text == "":
		return "", &Error{Problem: Malformed, Message: who + " gave nothing", Hint: "it must give the token, or a JSON document with it"}
	case pointer == "" && text[0] != '{' && text[0] != '"':
		return text, nil
	}
	var document any
	if json.Unmarshal([]byte(text), &document) != nil {
		return "", &Error{Problem: Malformed, Message: who + " gave something that is not JSON", Hint: "it must give one JSON document, whole and with nothing around it"}
	}
	if pointer != "" {
		return pointedToken(who, document, pointer)
	}
	if token, ok := document.(string); ok {
		return token, nil
	}
	object, _ := document.(map[string]any)
	if _, ok := object["success"]; ok {
		return executableToken(who, object)
	}
	return wellKnownToken(who, object)
}

func pointedToken(who string, document any, pointer string) (string, error) {
	value, ok := resolve(document, pointer)
	if !ok {
		return "", &Error{Problem: Malformed, Message: who + " gave JSON without " + quote(pointer), Hint: "compare the pointer with the documented form of the answer"}
	}
	token, ok := value.(string)
	if !ok || token == "" {
		return "", &Error{Problem: Malformed, Message: who + " gave JSON with no text at " + quote(pointer), Hint: "the pointer must lead to the string that is the token"}
	}
	return token, nil
}

// wellKnownToken refuses a document with two different tokens: the choice
// would be ours, and the wrong one would be sent to Entra.
func wellKnownToken(who string, object map[string]any) (string, error) {
	found := ""
	for _, place := range []string{"/token", "/value", "/id_token", "/WebIdentityToken", "/status/token"} {
		value, _ := resolve(object, place)
		token, _ := value.(string)
		if token != "" && found != "" && token != found {
			return "", &Error{Problem: Malformed, Message: who + " gave JSON with two different tokens", Hint: "say which one is meant, or have it give one"}
		}
		if token != "" {
			found = token
		}
	}
	if found == "" {
		return "", &Error{Problem: Malformed, Message: who + " gave JSON without a token", Hint: `the token is looked for in token, value, id_token, WebIdentityToken and status.token`}
	}
	return found, nil
}

// executableToken reads the answer of an executable source, see
// https://google.aip.dev/auth/4117. Its message is not repeated: the program
// may have put anything into it.
func executableToken(who string, object map[string]any) (string, error) {
	success, isBool := object["success"].(bool)
	token, _ := object["id_token"].(string)
	switch {
	case !isBool || object["version"] != 1.0:
		return "", &Error{Problem: Malformed, Message: who + " gave an executable source's answer that is not of version 1", Hint: `want {"version": 1, "success": true, "id_token": …}`}
	case !success:
		return "", &Error{Problem: Unavailable, Message: who + " says that it has no token", Hint: "run it by hand and read the message of its answer"}
	case token == "":
		return "", &Error{Problem: Malformed, Message: who + " gave an executable source's answer without id_token", Hint: "Entra takes OpenID Connect tokens only, not SAML responses"}
	}
	return token, nil
}

// resolve evaluates a JSON pointer (RFC 6901). A pointer that is none leads
// nowhere.
func resolve(document any, pointer string) (any, bool) {
	if pointer == "" {
		return document, true
	}
	steps := strings.Split(pointer, "/")
	if steps[0] != "" {
		return nil, false
	}
	for _, step := range steps[1:] {
		name, ok := unescape(step)
		if !ok {
			return nil, false
		}
		switch value := document.(type) {
		case map[string]any:
			document, ok = value[name]
		case []any:
			var i int
			if i, ok = index(name); ok {
				if ok = i < len(value); ok {
					document = value[i]
				}
			}
		default:
			ok = false
		}
		if !ok {
			return nil, false
		}
	}
	return document, true
}

// unescape reads ~1 as / and ~0 as ~, in one pass: ~01 is ~1.
func unescape(step string) (string, bool) {
	for i := range len(step) {
		if step[i] == '~' && (i+1 == len(step) || step[i+1] != '0' && step[i+1] != '1') {
			return "", false
		}
	}
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(step), true
}

// index reads an array index: no sign, no leading zero, and no "-", which is
// the item after the last.
func index(step string) (int, bool) {
	i, err := strconv.ParseUint(step, 10, 31)
	return int(i), err == nil && strconv.FormatUint(i, 10) == step
}
