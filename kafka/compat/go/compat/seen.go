package compat

import (
	"slices"
	"sync"
)

// At is a place in a topic.
type At struct {
	Topic     string
	Partition int32
}

// Seen is what a member of a group has and has read.
type Seen struct {
	mutex      sync.Mutex
	assigned   map[At]bool
	positions  map[At]int64
	records    [][3]any
	revoked    int
	rebalances int
	failed     error
}

// Read takes note of a record.
func (s *Seen) Read(topic string, partition int32, offset int64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.positions == nil {
		s.positions = map[At]int64{}
	}
	s.records = append(s.records, [3]any{topic, partition, offset})
	s.positions[At{topic, partition}] = offset + 1
}

// Assigned takes note of partitions that the member has from now on.
func (s *Seen) Assigned(given map[string][]int32) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.assigned == nil {
		s.assigned = map[At]bool{}
	}
	s.rebalances++
	for topic, partitions := range given {
		for _, partition := range partitions {
			s.assigned[At{topic, partition}] = true
		}
	}
}

// Revoked takes note of partitions that the member has no more.
func (s *Seen) Revoked(taken map[string][]int32) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for topic, partitions := range taken {
		for _, partition := range partitions {
			delete(s.assigned, At{topic, partition})
			s.revoked++
		}
	}
}

// Failed takes note that it is over.
func (s *Seen) Failed(err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.failed = err
}

// Positions is where the member is in the partitions of topic that it has.
func (s *Seen) Positions(topic string) map[int32]int64 {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	positions := map[int32]int64{}
	for at, offset := range s.positions {
		if at.Topic == topic && s.assigned[at] {
			positions[at.Partition] = offset
		}
	}
	return positions
}

// Reply tells it; each record once.
func (s *Seen) Reply() (Reply, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	assigned := []int32{}
	for at := range s.assigned {
		assigned = append(assigned, at.Partition)
	}
	slices.Sort(assigned)
	records := s.records
	s.records = nil
	return Reply{
		"assigned": assigned, "records": records, "revoked": s.revoked, "rebalances": s.rebalances,
	}, s.failed
}
