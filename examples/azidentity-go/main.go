// Command azidentity-go is an agent with the Azure SDK for Go that holds no
// credential.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

func main() {
	log.SetFlags(0)
	options := policy.TokenRequestOptions{Scopes: []string{os.Getenv("SCOPE")}}
	byDefault, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		log.Fatal(err)
	}
	managed, err := azidentity.NewManagedIdentityCredential(nil)
	if err != nil {
		log.Fatal(err)
	}
	refused := false
	for _, c := range []struct {
		name       string
		credential azcore.TokenCredential
	}{{"DefaultAzureCredential", byDefault}, {"ManagedIdentityCredential", managed}} {
		for _, call := range []string{"first", "second"} {
			began := time.Now()
			token, err := c.credential.GetToken(context.Background(), options)
			took := time.Since(began).Milliseconds()
			if err != nil {
				log.Printf("%s refused after %d ms: %v", c.name, took, err)
				refused = true
				break
			}
			fmt.Printf("%s %s token after %d ms, good until %s\n", c.name, call, took, token.ExpiresOn.Format(time.TimeOnly))
		}
	}
	if refused {
		log.Fatal("no token, no work")
	}
}
