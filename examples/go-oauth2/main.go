// Command go-oauth2 is an agent that needs a token and holds no credential.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"golang.org/x/oauth2/clientcredentials"
)

func main() {
	config := clientcredentials.Config{
		ClientID: "demo",
		TokenURL: os.Getenv("TOKEN_URL"),
		Scopes:   []string{os.Getenv("SCOPE")},
	}
	// config.Client(ctx) would be an *http.Client that adds the token by itself.
	token, err := config.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("got a %s token for %s\n", token.Type(), config.Scopes[0])
}
