-- Add workers: all of them, or none if one exists already. Returns the ids that exist already with another incarnation.
-- Repeating a call whose answer was lost changes nothing.
local workers       = KEYS[1] -- zset: the fleet's ids
local worker_hashes_at = 2      -- KEYS[worker_hashes_at], …: hash: each worker
local specs_at      = 1       -- ARGV[specs_at], …: id, incarnation and spec of each worker

local existing = {}
for i = 0, #KEYS - worker_hashes_at do
  local id, incarnation = ARGV[specs_at + 3 * i], ARGV[specs_at + 3 * i + 1]
  local present = redis.call('HGET', KEYS[worker_hashes_at + i], 'incarnation')
  if present and present ~= incarnation then existing[#existing + 1] = id end
end
if #existing > 0 then return existing end

for i = 0, #KEYS - worker_hashes_at do
  local worker = KEYS[worker_hashes_at + i]
  local id, incarnation, spec = unpack(ARGV, specs_at + 3 * i, specs_at + 3 * i + 2)
  if redis.call('EXISTS', worker) == 0 then
    redis.call('HSET', worker, 'incarnation', incarnation, 'spec', spec, 'seq', 0)
    redis.call('ZADD', workers, 0, id)
  end
end
return existing
