-- Record that the event queue named a worker, and its warning. Returns 1 if the worker did not have the warning yet, 0
-- if it did, if there was none, or if the worker is gone.
-- Warnings are stored as lines "id until json". Expired ones are removed after a while.
local worker    = KEYS[1]             -- hash: the worker
local pending   = KEYS[2]             -- zset: pending workers by the time they were marked
local worker_id = ARGV[1]
local at        = ARGV[2]
local id        = ARGV[3]             -- of the warning, '' for none
local until_at  = ARGV[4]             -- when the warning is forgotten
local warning   = ARGV[5]             -- its JSON, on one line
local max_warnings = tonumber(ARGV[6])

if redis.call('EXISTS', worker) == 0 then return 0 end
local before = tonumber(redis.call('HGET', worker, 'requested_at') or '')
if not before or before < tonumber(at) then redis.call('HSET', worker, 'requested_at', at) end
if id == '' then return 0 end
local warnings = {}
for line in string.gmatch(redis.call('HGET', worker, 'warnings') or '', '[^\n]+') do
  local stored_id, expires_at = string.match(line, '^(%S+) (%S+) ')
  if stored_id == id then return 0 end
  if stored_id and (tonumber(expires_at) or 0) > tonumber(at) then warnings[#warnings + 1] = line end
end
warnings[#warnings + 1] = id .. ' ' .. until_at .. ' ' .. warning
while #warnings > max_warnings do table.remove(warnings, 1) end
redis.call('HSET', worker, 'warnings', table.concat(warnings, '\n'))
add(worker, 'seq', 1)
redis.call('ZADD', pending, 'NX', at, worker_id)
return 1
