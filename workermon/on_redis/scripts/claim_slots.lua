-- Claim a slot of each worker, so that only one node collects it. The lease is measured by the server's clock. A claim
-- longer than any lease was made before that clock was set back.
-- Returns for each worker: 'claimed', 'held' (another claim holds), 'complete' (the slot was collected) or 'gone' (the
-- worker does not exist with this incarnation).
local worker_hashes_at = 1           -- KEYS[worker_hashes_at], …: hash: each worker
local milliseconds = tonumber(ARGV[1]) -- of the lease
local tolerance = tonumber(ARGV[2])  -- seconds
local slots_at = 3                   -- ARGV[slots_at], …: incarnation and slot of each worker

-- Return whether the stored set-up of a worker has this incarnation.
local function is_set_up_as(worker, incarnation)
  local is_json, spec = pcall(cjson.decode, redis.call('HGET', worker, 'spec') or '')
  return is_json and type(spec) == 'table' and spec.incarnation == incarnation
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local outcomes = {}
for i = 0, #KEYS - worker_hashes_at do
  local worker, incarnation, slot = KEYS[worker_hashes_at + i], ARGV[slots_at + 2 * i], ARGV[slots_at + 2 * i + 1]
  local present, completed, claim = unpack(redis.call('HMGET', worker, 'incarnation', 'slot', 'claim'))
  local claimed, until_ = nil, nil
  if claim then claimed, until_ = string.match(claim, '^(.+) (%d+)$') end -- nil if it is malformed
  if present ~= incarnation and is_set_up_as(worker, incarnation) then
    -- The record is damaged. No other step would write to it, so the worker would never be collected again.
    redis.call('HSET', worker, 'incarnation', incarnation)
    present = incarnation
  end
  if present ~= incarnation then
    outcomes[i + 1] = 'gone'
  elseif is_complete(completed, slot, tolerance) then
    outcomes[i + 1] = 'complete'
  elseif claimed == slot and tonumber(until_) > now and tonumber(until_) <= now + milliseconds + tolerance * 1000 then
    outcomes[i + 1] = 'held'
  else
    redis.call('HSET', worker, 'claim', slot .. ' ' .. string.format('%d', now + milliseconds))
    outcomes[i + 1] = 'claimed'
  end
end
return outcomes
