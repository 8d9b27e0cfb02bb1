package localapi

import (
	"encoding/json"
	"strings"
	"sync"
)

// sidecarDocument describes this door in OpenAPI 3.1, with the names of
// operations that clients generated from the auth sidecar's document know. The
// result must not be modified.
var sidecarDocument = sync.OnceValue(func() []byte {
	document, err := json.Marshal(map[string]any{
		"openapi": "3.1.1",
		"info":    map[string]any{"title": "credfree, as an Entra auth sidecar", "version": "1.0.0"},
		"paths": map[string]any{
			routeValidate:                validation(),
			routeHeader + "{apiName}":    operation(routeHeader, "AuthorizationHeader", "Get an authorization header on behalf of the user."),
			routeOwnHeader + "{apiName}": operation(routeOwnHeader, "AuthorizationHeaderUnauthenticated", "Get an authorization header of the agent itself."),
			routeCall + "{apiName}":      operation(routeCall, "DownstreamApi", "Call an API on behalf of the user."),
			routeOwnCall + "{apiName}":   operation(routeOwnCall, "DownstreamApiUnauthenticated", "Call an API as the agent itself."),
		},
		"components": map[string]any{
			"schemas": map[string]any{
				"AuthorizationHeaderResult":         object("authorizationHeader", "string"),
				"ValidateAuthorizationHeaderResult": object("protocol", "string", "token", "string", "claims", "object"),
				"DownstreamApiResult": map[string]any{"type": "object", "properties": map[string]any{
					"statusCode": map[string]any{"type": "integer", "description": "Of the API's answer."},
					"headers":    map[string]any{"type": "object", "additionalProperties": map[string]any{"type": "array", "items": map[string]any{"type": "string"}}},
					"content":    map[string]any{"type": []string{"string", "null"}},
				}},
				"ProblemDetails": object("type", "string", "title", "string", "status", "integer", "detail", "string", "error", "string", "reason", "string", "refused_by", "string",
					"rule", "string", "hint", "string", "claims", "string", "suberror", "string", "error_codes", "array", "correlation_id", "string", "issuance_id", "string"),
			},
			"securitySchemes": map[string]any{"Bearer": map[string]any{"type": "http", "scheme": "bearer", "description": "The user's token."}},
		},
	})
	if err != nil { // strings, lists and maps always encode
		return []byte("{}")
	}
	return document
})

// documentedAnswer is an answer whose body is of a schema of the document.
func documentedAnswer(description, contentType, schema string) map[string]any {
	return map[string]any{"description": description, "content": map[string]any{
		contentType: map[string]any{"schema": map[string]any{"$ref": "#/components/schemas/" + schema}}}}
}

var signedInUser = []any{map[string]any{"Bearer": []string{}}}

// operation is a GET for an authorization header, or a POST for a call. Errors are
// all of one form.
func operation(route, id, summary string) map[string]any {
	failed := documentedAnswer("Refused; hint says what to change.", problemJSON[0], "ProblemDetails")
	responses := map[string]any{"400": failed, "401": failed, "403": failed, "414": failed, "429": failed, "503": failed}
	op := map[string]any{"operationId": id, "summary": summary, "parameters": routeParameters(route), "responses": responses}
	if isForUser(route) {
		op["security"] = signedInUser
	}
	if !isCall(route) {
		responses["200"] = documentedAnswer("OK", "application/json", "AuthorizationHeaderResult")
		return map[string]any{"get": op}
	}
	responses["200"] = documentedAnswer("The API has answered, with whatever status.", "application/json", "DownstreamApiResult")
	for _, status := range []string{"413", "502", "504"} {
		responses[status] = failed
	}
	op["requestBody"] = map[string]any{"description": "Sent on as it is.", "content": map[string]any{"application/json": map[string]any{"schema": map[string]any{}}}}
	return map[string]any{"post": op}
}

// validation is the GET that tells what a user's token says.
func validation() map[string]any {
	failed := documentedAnswer("Refused; hint says what to change.", problemJSON[0], "ProblemDetails")
	return map[string]any{"get": map[string]any{
		"operationId": "ValidateAuthorizationHeader", "summary": "Validate a user's token, and tell what it says.", "security": signedInUser,
		"responses": map[string]any{
			"200": documentedAnswer("OK", "application/json", "ValidateAuthorizationHeaderResult"), "400": failed,
			"401": map[string]any{"description": "The token is no good, see WWW-Authenticate; or the caller is nobody."},
			"403": map[string]any{"description": "The token lacks a scope (in plain text), or the agent may not have tokens validated.", "content": map[string]any{
				"text/plain": map[string]any{"schema": map[string]any{"type": "string"}}, problemJSON[0]: map[string]any{"schema": map[string]any{"$ref": "#/components/schemas/ProblemDetails"}}}},
			"414": failed, "429": failed, "503": failed,
		},
	}}
}

// routeParameters are the API and every parameter that is not refused and has
// a name of its own.
func routeParameters(route string) []any {
	text := map[string]any{"type": "string"}
	list := []any{map[string]any{"name": "apiName", "in": "path", "required": true, "schema": text, "description": "Name of an API in the policy."}}
	for _, p := range sidecarParameters {
		if p.treatment == refused || p.treatment == ofCalls && !isCall(route) || strings.HasSuffix(p.name, ".") {
			continue
		}
		schema := text
		switch p.name {
		case overrideScopes:
			schema = map[string]any{"type": "array", "items": text}
		case overrideAppToken:
			schema = map[string]any{"type": "boolean"}
		}
		description := p.text
		if p.treatment == ignored {
			description = "Taken and ignored. " + description
		}
		list = append(list, map[string]any{"name": p.name, "in": "query", "schema": schema, "description": description})
	}
	return list
}

// object is the schema of a JSON object: pairs of member and type.
func object(pairs ...string) map[string]any {
	members := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		members[pairs[i]] = map[string]any{"type": pairs[i+1]}
	}
	return map[string]any{"type": "object", "properties": members}
}
