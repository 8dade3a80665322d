package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"
)

// Deterministic CBOR as the protocol has it: definite lengths in their shortest form, 64-bit integers, strings,
// arrays, maps with one-byte integer keys in ascending order of their encoding, false, true, null. Nothing else.

const (
	maxDepth = 8
	maxItems = 1 << 20
)

type cborReader struct {
	rest  []byte
	items int
}

var errCBOR = errors.New("malformed CBOR")

// decode reads exactly one value: int64, []byte, string, []any, map[int64]any, bool or nil.
func decode(encoded []byte) (any, error) {
	reader := &cborReader{rest: encoded}
	value, err := reader.value(maxDepth)
	if err != nil {
		return nil, err
	}
	if len(reader.rest) != 0 {
		return nil, fmt.Errorf("%w: %d octets after the value", errCBOR, len(reader.rest))
	}
	return value, nil
}

func (r *cborReader) take(count uint64) ([]byte, error) {
	if count > uint64(len(r.rest)) {
		return nil, fmt.Errorf("%w: cut off", errCBOR)
	}
	taken := r.rest[:count]
	r.rest = r.rest[count:]
	return taken, nil
}

func (r *cborReader) head() (major byte, argument uint64, err error) {
	first, err := r.take(1)
	if err != nil {
		return 0, 0, err
	}
	major, info := first[0]>>5, first[0]&31
	if major == 7 && info >= 24 {
		return 0, 0, fmt.Errorf("%w: float, break or unassigned value", errCBOR)
	}
	if info < 24 {
		return major, uint64(info), nil
	}
	if info > 27 {
		return 0, 0, fmt.Errorf("%w: indefinite or reserved length", errCBOR)
	}
	size := uint64(1) << (info - 24)
	octets, err := r.take(size)
	if err != nil {
		return 0, 0, err
	}
	var wide [8]byte
	copy(wide[8-size:], octets)
	argument = binary.BigEndian.Uint64(wide[:])
	if argument < 24 || size > 1 && argument < 1<<(4*size) {
		return 0, 0, fmt.Errorf("%w: a length or number not in its shortest form", errCBOR)
	}
	return major, argument, nil
}

func (r *cborReader) value(depth int) (any, error) {
	if r.items++; r.items > maxItems {
		return nil, fmt.Errorf("%w: more than %d items", errCBOR, maxItems)
	}
	major, argument, err := r.head()
	if err != nil {
		return nil, err
	}
	switch major {
	case 0, 1:
		if argument > 1<<63-1 {
			return nil, fmt.Errorf("%w: integer beyond 64 bits", errCBOR)
		}
		if major == 1 {
			return -1 - int64(argument), nil
		}
		return int64(argument), nil
	case 2:
		return r.take(argument)
	case 3:
		octets, err := r.take(argument)
		if err == nil && !utf8.Valid(octets) {
			err = fmt.Errorf("%w: text that is not UTF-8", errCBOR)
		}
		return string(octets), err
	case 4, 5:
		if depth == 0 || argument > uint64(len(r.rest)) {
			return nil, fmt.Errorf("%w: too deep or too long", errCBOR)
		}
		if major == 4 {
			return r.array(argument, depth-1)
		}
		return r.mapping(argument, depth-1)
	case 7:
		switch argument {
		case 20:
			return false, nil
		case 21:
			return true, nil
		case 22:
			return nil, nil
		}
	}
	return nil, fmt.Errorf("%w: a type that is not used here", errCBOR)
}

func (r *cborReader) array(count uint64, depth int) (any, error) {
	items := make([]any, 0, count)
	for range count {
		item, err := r.value(depth)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func (r *cborReader) mapping(count uint64, depth int) (any, error) {
	items := make(map[int64]any, count)
	last := -1
	for range count {
		if len(r.rest) == 0 || int(r.rest[0]) <= last {
			return nil, fmt.Errorf("%w: map keys not in ascending order", errCBOR)
		}
		last = int(r.rest[0])
		if last > 0x17 && last < 0x20 || last > 0x37 {
			return nil, fmt.Errorf("%w: a map key that is not a one-byte integer", errCBOR)
		}
		key, err := r.value(0)
		if err != nil {
			return nil, err
		}
		if items[key.(int64)], err = r.value(depth); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func head(major byte, argument uint64) []byte {
	switch {
	case argument < 24:
		return []byte{major<<5 | byte(argument)}
	case argument < 1<<8:
		return []byte{major<<5 | 24, byte(argument)}
	case argument < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(argument))
	case argument < 1<<32:
		return binary.BigEndian.AppendUint32([]byte{major<<5 | 26}, uint32(argument))
	}
	return binary.BigEndian.AppendUint64([]byte{major<<5 | 27}, argument)
}

// encode writes what decode reads; an int is written as an int64.
func encode(value any) []byte {
	switch value := value.(type) {
	case nil:
		return []byte{0xf6}
	case bool:
		if value {
			return []byte{0xf5}
		}
		return []byte{0xf4}
	case int:
		return encode(int64(value))
	case map[int64]any:
		encoded := head(5, uint64(len(value)))
		ascending := func(a, b int64) int { return bytes.Compare(encode(a), encode(b)) }
		for _, key := range slices.SortedFunc(maps.Keys(value), ascending) {
			encoded = append(append(encoded, encode(key)...), encode(value[key])...)
		}
		return encoded
	case int64:
		if value < 0 {
			return head(1, uint64(-1-value))
		}
		return head(0, uint64(value))
	case []byte:
		return append(head(2, uint64(len(value))), value...)
	case string:
		return append(head(3, uint64(len(value))), value...)
	case []any:
		encoded := head(4, uint64(len(value)))
		for _, item := range value {
			encoded = append(encoded, encode(item)...)
		}
		return encoded
	}
	panic(fmt.Sprintf("encode: %T", value))
}

func readArray(encoded []byte, length int, what string) ([]any, error) {
	value, err := decode(encoded)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return asArray(value, length, what)
}

func asArray(value any, length int, what string) ([]any, error) {
	items, ok := value.([]any)
	if !ok || length >= 0 && len(items) != length {
		return nil, fmt.Errorf("%s: not an array of %d", what, length)
	}
	return items, nil
}

func asBytes(value any, length int, what string) ([]byte, error) {
	octets, ok := value.([]byte)
	if !ok || length >= 0 && len(octets) != length {
		return nil, fmt.Errorf("%s: not %d octets", what, length)
	}
	return octets, nil
}

func asInt(value any, what string) (int64, error) {
	number, ok := value.(int64)
	if !ok {
		return 0, fmt.Errorf("%s: not an integer", what)
	}
	return number, nil
}

// A time is in seconds, from 1970 to the end of the year 9999.
func asTime(value any, what string) (int64, error) {
	seconds, err := asInt(value, what)
	if err == nil && (seconds < 0 || seconds > 253402300799) {
		err = fmt.Errorf("%s: %d is no time", what, seconds)
	}
	return seconds, err
}

func asHashes(value any, what string) ([]hash, error) {
	items, err := asArray(value, -1, what)
	if err != nil {
		return nil, err
	}
	hashes := make([]hash, len(items))
	for i, item := range items {
		octets, err := asBytes(item, 32, what)
		if err != nil {
			return nil, err
		}
		hashes[i] = hash(octets)
	}
	return hashes, nil
}
