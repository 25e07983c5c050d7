-- Return the same fields of many workers. One command for all, because sending costs more than reading.
local worker_hashes_at = 1 -- KEYS[worker_hashes_at], …: hash: each worker
local fields_at = 1      -- ARGV[fields_at], …: names of fields

local records = {}
for i = worker_hashes_at, #KEYS do
  records[#records + 1] = redis.call('HMGET', KEYS[i], unpack(ARGV, fields_at))
end
return records
