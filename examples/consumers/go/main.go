// Who holds a token of Claviger? By GET on Redis, with go-redis.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/redis/go-redis/v9"
)

var form = regexp.MustCompile(`^clv_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}$`)

// UserID tells the user's id; false is "not logged in". An error is "can't tell": answer 503 then, and never 401.
func UserID(ctx context.Context, client *redis.Client, token, keyPrefix string, hashed bool) (int64, bool, error) {
	if !form.MatchString(token) {
		return 0, false, nil
	}
	key := token
	if hashed {
		sum := sha256.Sum256([]byte(token))
		key = hex.EncodeToString(sum[:])
	}
	id, err := client.Get(ctx, keyPrefix+key).Int64()
	if errors.Is(err, redis.Nil) {
		return 0, false, nil
	}
	return id, err == nil, err
}

// Connect makes a client for all goroutines. It asks once more where a connection has just been closed.
func Connect(url string) (*redis.Client, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = time.Second, time.Second, time.Second
	options.MaxRetries = 1
	return redis.NewClient(options), nil
}

// To try it: reads tokens, one a line. The settings have the names that Claviger has for them.
func main() {
	client, err := Connect(os.Getenv("REDIS_URL"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	keyPrefix, hashed := os.Getenv("CLAVIGER_TOKENS__KEY_PREFIX"), os.Getenv("CLAVIGER_TOKENS__KEY") == "sha256"
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch id, found, err := UserID(context.Background(), client, lines.Text(), keyPrefix, hashed); {
		case err != nil:
			fmt.Println("can't tell")
		case !found:
			fmt.Println("not logged in")
		default:
			fmt.Println(id)
		}
	}
}
