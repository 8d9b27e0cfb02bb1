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
			routeHeader + "{apiName}":    operation("AuthorizationHeader", "Get an authorization header on behalf of the user.", true),
			routeOwnHeader + "{apiName}": operation("AuthorizationHeaderUnauthenticated", "Get an authorization header of the agent itself.", false),
		},
		"components": map[string]any{
			"schemas": map[string]any{
				"AuthorizationHeaderResult": object("authorizationHeader", "string"),
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

// operation is a GET for an authorization header, whose errors are all of one form.
func operation(id, summary string, forUser bool) map[string]any {
	answer := func(description, contentType, schema string) map[string]any {
		return map[string]any{"description": description, "content": map[string]any{
			contentType: map[string]any{"schema": map[string]any{"$ref": "#/components/schemas/" + schema}}}}
	}
	failed := answer("Refused; hint says what to change.", problemJSON[0], "ProblemDetails")
	get := map[string]any{"operationId": id, "summary": summary, "parameters": headerParameters(), "responses": map[string]any{
		"200": answer("OK", "application/json", "AuthorizationHeaderResult"), "400": failed, "401": failed, "403": failed, "414": failed, "429": failed, "503": failed,
	}}
	if forUser {
		get["security"] = []any{map[string]any{"Bearer": []string{}}}
	}
	return map[string]any{"get": get}
}

// headerParameters are the API and every parameter that is not refused and has
// a name of its own.
func headerParameters() []any {
	text := map[string]any{"type": "string"}
	list := []any{map[string]any{"name": "apiName", "in": "path", "required": true, "schema": text, "description": "Name of an API in the policy."}}
	for _, p := range sidecarParameters {
		if p.treatment == refused || strings.HasSuffix(p.name, ".") {
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
