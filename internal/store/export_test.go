package store

import "encoding/json"

// Seal returns a manifest's file around body, or nil if body cannot be in one.
func Seal(body []byte) []byte {
	if !json.Valid(body) {
		return nil
	}
	data, err := seal(body)
	if err != nil {
		return nil
	}
	return data
}
