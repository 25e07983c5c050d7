-- Read the basis of verdicts about workers. One command for all, because sending costs more than reading.
-- Returns the configuration's revision, then for each worker its fields, version and state of its alerts, and the last
-- versions of its notifications.
local configuration = KEYS[1] -- hash: document and revision
local hashes_at = 2           -- KEYS[hashes_at], …: hashes: each worker, its alerts, its last versions
local fields_at = 1           -- ARGV[fields_at], …: names of a worker's fields

local reply = {redis.call('HGET', configuration, 'revision')}
for i = hashes_at, #KEYS, 3 do
  reply[#reply + 1] = {
    redis.call('HMGET', KEYS[i], unpack(ARGV, fields_at)),
    redis.call('HMGET', KEYS[i + 1], 'version', 'alerts'),
    redis.call('HGETALL', KEYS[i + 2]),
  }
end
return reply
