-- Return set-up, condition and last error of workers as one text: fields end with 0x1F, workers with 0x1E. One text,
-- because the client takes longer to parse many than the server to build one.
local worker_hashes_at = 1 -- KEYS[worker_hashes_at], …: hash: each worker

local texts = {}
for i = worker_hashes_at, #KEYS do
  local spec, condition, last_error = unpack(redis.call('HMGET', KEYS[i], 'spec', 'condition', 'last_error'))
  texts[#texts + 1] = (spec or '') .. '\31' .. (condition or '') .. '\31' .. (last_error or '') .. '\30'
end
return table.concat(texts)
