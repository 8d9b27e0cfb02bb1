package cache_test

import (
	"context"
	"fmt"
	"time"

	"github.com/credfree/credfree/broker/cache"
)

func Example() {
	ctx := context.Background()
	c, err := cache.New[string](cache.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = c.Close(ctx) }()

	key := cache.Key{Agent: "researcher", Identity: "graph", Scopes: "Mail.Read User.Read"}
	fetch := func(context.Context) (cache.Entry[string], error) {
		return cache.Entry[string]{Value: "token", Lifetime: time.Hour, Bytes: 5}, nil
	}
	for range 2 {
		v, _, refresh, ok := c.Lookup(key)
		switch {
		case ok && refresh:
			c.Refresh(ctx, key, fetch)
		case !ok:
			var how cache.How
			if v, _, how, err = c.Get(ctx, key, fetch); err != nil {
				fmt.Println(err)
				return
			}
			fmt.Println("not in memory:", how.Outcome)
		}
		fmt.Println(v)
	}
	// Output:
	// not in memory: miss
	// token
	// token
}
